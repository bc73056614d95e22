"""What a message takes in memory, told from its bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slipway_client import messages
from slipway_client.dtypes import DataType
from slipway_server.memory import MIB, Full
from slipway_server.wire import memory_of


def request(**fields: Any) -> bytes:
    """A PredictRequest with one tensor."""
    made = messages.PredictRequest()
    made.model_spec.name = "m"
    made.inputs["x"].CopyFrom(messages.TensorProto(dtype=DataType.DT_FLOAT, **fields))
    return bytes(made.SerializeToString())


def test_numbers_as_they_lie_in_memory_take_their_copies() -> None:
    for raw in (request(tensor_content=bytes(MIB)), request(float_val=[0.0] * (MIB // 4))):
        assert 4 * MIB <= memory_of(raw, messages.PredictRequest) < 4.1 * MIB


def test_numbers_of_one_byte_count_as_wide_as_they_become() -> None:
    raw = request(int64_val=[1] * 1000)
    assert memory_of(raw, messages.PredictRequest) > 24 * 1000
    assert memory_of(request(int_val=[1] * 1000), messages.PredictRequest) > 12 * 1000


def test_every_string_counts_however_short() -> None:
    raw = request(string_val=[b""] * 10_000)
    assert memory_of(raw, messages.PredictRequest) > 90 * 10_000
    with pytest.raises(Full, match="more than 9999 values"):
        memory_of(raw, messages.PredictRequest, 9_999)


def test_what_is_nested_counts() -> None:
    many = messages.ClassificationRequest()
    for _ in range(5_000):
        many.input.example_list.examples.add()
    assert memory_of(many.SerializeToString(), messages.ClassificationRequest) > 90 * 5_000
    dims = messages.PredictRequest()
    for _ in range(5_000):
        dims.inputs["x"].tensor_shape.dim.add()
    assert memory_of(dims.SerializeToString(), messages.PredictRequest) > 90 * 5_000


def test_a_message_that_holds_itself_is_followed_no_further_than_it_goes() -> None:
    made = messages.GetModelMetadataResponse()
    made.metadata["signature_def"].Pack(messages.SignatureDefMap())
    assert memory_of(made.SerializeToString(), messages.GetModelMetadataResponse) > 0


@settings(deadline=None)  # a busy machine is no fault
@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_measured_or_refused(raw: bytes) -> None:
    for kind in (messages.PredictRequest, messages.ClassificationRequest, messages.ReloadConfigRequest):
        assert memory_of(raw, kind) >= 4 * len(raw)
