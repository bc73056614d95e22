"""slipway's messages are tensorflow-serving-api's: same fields, same bytes, each reads the other's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from slipway_client import dtypes, messages
from slipway_client.descriptors import Package, make_pool
from slipway_client.tensors import from_proto, to_proto
from slipway_server import proto_json

from tests.unit.client import generated

FILES = ("tensorflow", "tensorflow.serving", "tensorflow.error")
# Fields are missing here on purpose; messages.py says so and why that is harmless.
PARTIAL = {
    f"tensorflow.{name}"
    for name in (
        *(
            "MetaGraphDef",
            "MetaGraphDef.MetaInfoDef",
            "SaverDef",
            "GraphDef",
            "NodeDef",
            "AttrValue",
            "AttrValue.ListValue",
        ),
        *("NameAttrList", "FunctionDefLibrary", "FunctionDef", "OpDef", "SavedObject"),
        *("SavedFunction", "SavedBareConcreteFunction", "SavedConcreteFunction", "TrackableObjectGraph"),
        *("TrackableObjectGraph.TrackableObject", "RunOptions", "RunMetadata"),
    )
} | {"tensorflow.serving.FileSystemStoragePathSourceConfig"}
NOT_IN_THE_WHEEL = {
    f"tensorflow.serving.{name}"
    for name in ("BatchingParameters", "MonitoringConfig", "PrometheusConfig", "SSLConfig")
}
WHOLE = (
    "PredictRequest",
    "PredictResponse",
    "ClassificationRequest",
    "ClassificationResponse",
    "RegressionRequest",
    "RegressionResponse",
    "MultiInferenceRequest",
    "MultiInferenceResponse",
    "GetModelMetadataRequest",
    "GetModelMetadataResponse",
    "SignatureDefMap",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
    "ReloadConfigRequest",
    "ReloadConfigResponse",
    "ModelServerConfig",
    "PredictionLog",
)


def _described() -> Iterator[Any]:
    """Every message there is, map entries left out."""
    todo = [
        one
        for package in FILES
        for one in messages.POOL.FindFileByName(f"slipway_client/{package}").message_types_by_name.values()
    ]
    while todo:
        one = todo.pop()
        if not one.GetOptions().map_entry:
            yield one
            todo += one.nested_types


def _facts(field: Any) -> tuple[Any, ...]:
    """All that decides a field's bytes, its text and its JSON."""
    kind = field.message_type
    entry = kind is not None and kind.GetOptions().map_entry
    return (
        field.number,
        field.type,
        field.is_repeated,
        field.is_packed,
        field.has_presence,
        field.json_name,
        [_facts(part) for part in kind.fields] if entry else kind and kind.full_name,
        field.enum_type and field.enum_type.full_name,
        field.containing_oneof and field.containing_oneof.name,
    )


@pytest.mark.parametrize(
    "ours",
    [one for one in _described() if one.full_name not in NOT_IN_THE_WHEEL],
    ids=lambda one: one.full_name,
)
def test_every_field_has_the_name_number_and_type_of_the_public_api(ours: Any) -> None:
    theirs = generated.message_class(ours.full_name).DESCRIPTOR
    expected = {field.name: _facts(field) for field in theirs.fields}
    found = {field.name: _facts(field) for field in ours.fields}
    assert found == {name: facts for name, facts in expected.items() if name in found}
    assert (set(found) < set(expected)) is (ours.full_name in PARTIAL and bool(expected))


def test_every_enumeration_has_the_names_and_numbers_of_the_public_api() -> None:
    seen = set()
    for message in _described():
        for enumeration in (field.enum_type for field in message.fields if field.enum_type):
            theirs = generated.enumeration(enumeration.full_name)
            assert dict(_values(enumeration)) == dict(_values(theirs))
            seen.add(enumeration.name)
    assert {"DataType", "Code", "State", "ModelType"} < seen


def _values(enumeration: Any) -> Iterator[tuple[str, int]]:
    return ((value.name, value.number) for value in enumeration.values)


# ---- bytes ------------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**32)
_EDGES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_INT32: (-(2**31), -1, 0, 1, 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), -1, 0, 1, 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), -1, 0, 1, 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 1, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 1, 2**64 - 1),
    FieldDescriptor.TYPE_FLOAT: (0.0, -0.0, 0.1, -1.5, 1e-45, 3.4028235e38, math.inf, -math.inf, math.nan),
    FieldDescriptor.TYPE_DOUBLE: (0.0, -0.0, 0.1, 5e-324, 1.7e308, math.inf, -math.inf, math.nan),
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_STRING: ("", "a", "b c", "\x00", '"<\n', "\u00e9\U0001f600"),
    FieldDescriptor.TYPE_BYTES: (b"", b"a", b"\xff\x00", b"0123456789" * 20),
}


def _fill(random: Random, alike: Sequence[Any], depth: int) -> None:
    """Set the same random fields of each message, as the first one describes them."""
    for field in alike[0].DESCRIPTOR.fields:
        kind = field.message_type
        if random.random() < 0.4 or (kind is not None and depth == 0):
            continue
        held = [getattr(message, field.name) for message in alike]
        if kind is not None and kind.GetOptions().map_entry:
            for _ in range(random.randint(1, 3)):
                _fill_entry(random, held, kind, depth)
        elif field.is_repeated:
            for _ in range(random.randint(1, 3)):
                if kind is not None:
                    _fill(random, [part.add() for part in held], depth - 1)
                    continue
                value = _value(random, field)
                for part in held:
                    part.append(value)
        elif kind is not None:
            for part in held:
                part.SetInParent()
            _fill(random, held, depth - 1)
        else:
            value = _value(random, field)
            for message in alike:
                setattr(message, field.name, value)


def _fill_entry(random: Random, held: Sequence[Any], entry: Any, depth: int) -> None:
    key, value = entry.fields
    name = _value(random, key)
    if value.message_type is not None:
        _fill(random, [part[name] for part in held], depth - 1)
        return
    item = _value(random, value)
    for part in held:
        part[name] = item


def _value(random: Random, field: Any) -> Any:
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    return random.choice(_EDGES[field.type])


def _classes(name: str) -> tuple[Any, Any]:
    """slipway's class and the generated one."""
    full_name = name if "." in name else f"tensorflow.serving.{name}"
    return messages.message_class(full_name), generated.message_class(full_name)


def _alike(name: str, seed: int) -> tuple[Any, Any]:
    """The same message built field by field in both classes, as slipway's describes it."""
    ours, theirs = (kind() for kind in _classes(name))
    _fill(Random(seed), (ours, theirs), 5)
    return ours, theirs


def _bytes(message: Any) -> bytes:
    out: bytes = message.SerializeToString(deterministic=True)
    return out


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_the_bytes_are_those_of_the_generated_classes_and_each_reads_the_others(name: str, seed: int) -> None:
    ours, theirs = _alike(name, seed)
    raw = _bytes(ours)
    assert raw == _bytes(theirs)
    own, other = _classes(name)
    assert _bytes(own.FromString(_bytes(theirs))) == raw
    assert _bytes(other.FromString(raw)) == raw


@pytest.mark.parametrize("name", ["ModelServerConfig", "SignatureDefMap", "PredictRequest"])
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_the_text_format_is_that_of_the_generated_classes(name: str, seed: int) -> None:
    ours, theirs = _alike(name, seed)
    text = text_format.MessageToString(ours)
    assert text == text_format.MessageToString(theirs)
    own, other = _classes(name)
    assert _bytes(text_format.Parse(text, own())) == _bytes(text_format.Parse(text, other()))


@pytest.mark.parametrize("name", ["GetModelStatusResponse", "SignatureDefMap", "ModelSpec"])
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_the_json_is_that_of_the_generated_classes(name: str, seed: int) -> None:
    ours, theirs = _alike(name, seed)
    for proto_names in (False, True):
        found = proto_json.text(ours, proto_names=proto_names)
        assert found == proto_json.text(theirs, proto_names=proto_names)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_signatures_packed_into_a_metadata_response_are_read_by_either_side(seed: int) -> None:
    signatures = _alike("SignatureDefMap", seed)
    raw = []
    for packed, kind in zip(signatures, _classes("GetModelMetadataResponse"), strict=True):
        answer = kind()
        answer.metadata["signature_def"].Pack(packed, deterministic=True)
        raw.append(_bytes(answer))
    assert raw[0] == raw[1]
    for kind, map_kind in zip(_classes("GetModelMetadataResponse"), _classes("SignatureDefMap"), strict=True):
        read = map_kind()
        assert kind.FromString(raw[0]).metadata["signature_def"].Unpack(read)
        assert _bytes(read) == _bytes(signatures[0])


@pytest.mark.parametrize(
    "name", ["tensorflow.SavedModel", "tensorflow.MetaGraphDef", "tensorflow.serving.SessionRunRequest"]
)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_what_is_described_in_part_is_read_and_written_without_loss(name: str, seed: int) -> None:
    own, other = _classes(name)
    theirs = other()
    _fill(Random(seed), [theirs], 4)
    raw = _bytes(theirs)
    assert _bytes(other.FromString(_bytes(own.FromString(raw)))) == raw


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_tensor_of_any_dtype_has_the_generated_classes_bytes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(dtypes.NUMPY)))
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    array = data.draw(arrays.arrays(np.dtype(name), shape))
    raw = _bytes(to_proto(array))
    theirs = generated.message_class("tensorflow.TensorProto").FromString(raw)
    assert _bytes(theirs) == raw
    back = from_proto(messages.TensorProto.FromString(_bytes(theirs)))
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_every_dtype_of_the_protocol_has_its_name_and_number() -> None:
    assert dict(dtypes.NUMBERS) == dict(_values(generated.enumeration("tensorflow.DataType")))


# ---- a pool of its own ------------------------------------------------------------------------


def test_health_messages_are_those_of_grpcs_protocol() -> None:
    # grpc/health/v1/health.proto: both messages have one field, number 1
    assert messages.HealthCheckRequest(service="a").SerializeToString() == b"\x0a\x01a"
    assert messages.HealthCheckResponse(status="SERVICE_UNKNOWN").SerializeToString() == b"\x08\x03"


def test_monitoring_configuration_is_the_public_one() -> None:
    # tensorflow_serving/config/monitoring_config.proto; the wheel has no class of it
    text = 'prometheus_config { enable: true path: "/m" }'
    parsed = text_format.Parse(text, messages.MonitoringConfig())
    assert parsed.SerializeToString() == b"\x0a\x06\x08\x01\x12\x02/m"


def test_tls_configuration_is_the_public_one() -> None:
    # tensorflow_serving/config/ssl_config.proto; the wheel has no class of it
    text = 'server_key: "k" server_cert: "c" custom_ca: "a" client_verify: true'
    parsed = text_format.Parse(text, messages.SSLConfig())
    assert parsed.SerializeToString() == b"\x0a\x01k\x12\x01c\x1a\x01a\x20\x01"


def test_both_kinds_of_the_same_name_live_in_one_process() -> None:
    ours, theirs = _classes("PredictRequest")
    assert ours.DESCRIPTOR.full_name == theirs.DESCRIPTOR.full_name
    assert ours.DESCRIPTOR.file.pool is not theirs.DESCRIPTOR.file.pool


@pytest.mark.parametrize("text", ["int32 a", "int32 a 1 2", "*<string:int32> a", "a 1"])
def test_a_field_that_is_not_one_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a field: "):
        make_pool([Package("p", {"M": text}, {})])
