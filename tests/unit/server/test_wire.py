"""What a message takes in memory, told from its bytes."""

from __future__ import annotations

import tracemalloc
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


@pytest.mark.parametrize(
    "raw", [b"\x0a\x80\x80\x80\x02" + b"\x0a\x00" * 250_000, b"\x0a\xff\xff\xff\x7f" * 200_000]
)
def test_looking_takes_no_memory_itself(raw: bytes) -> None:
    """Neither for messages beside one another nor for messages in one another."""
    tracemalloc.start()
    try:
        memory_of(raw, messages.ClassificationRequest)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_messages_in_one_another_are_followed_as_far_as_the_parser_goes() -> None:
    def nested(depth: int) -> bytes:
        made = messages.TensorProto(int64_val=[1] * 100)
        for _ in range(depth):
            made = messages.TensorProto(variant_val=[{"tensors": [made]}])
        return bytes(made.SerializeToString())

    flat = memory_of(nested(0), messages.TensorProto)
    assert memory_of(nested(40), messages.TensorProto) > flat + 40 * 2 * 96


@settings(deadline=None)  # a busy machine is no fault
@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_measured_or_refused(raw: bytes) -> None:
    for kind in (messages.PredictRequest, messages.ClassificationRequest, messages.ReloadConfigRequest):
        assert memory_of(raw, kind) >= 4 * len(raw)
