"""Answers over gRPC: bit for bit TensorFlow's own, in TensorFlow Serving's form."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from slipway_client import messages
from slipway_client.dtypes import DataType

from .conftest import Made, Server, predict_request
from .protos import content, example, floats, tensor


def test_every_answer_is_tensorflows_bit_for_bit(made: Made, server: Server) -> None:
    asked = set()
    for case in made.answers:
        inputs = {name: messages.TensorProto.FromString(raw) for name, raw in case["inputs"].items()}
        response = server.predict(predict_request(case["model"], case["signature"], **inputs))
        told = {
            name: (proto.dtype, tuple(dim.size for dim in proto.tensor_shape.dim), content(proto))
            for name, proto in response.outputs.items()
        }
        assert told == case["outputs"], case["signature"]
        asked.add(case["signature"])
    # All dtypes a TensorProto carries, each with a scalar, the extremes, and no element at all.
    assert {name for name in asked if name.startswith("echo_")} == {
        f"echo_{name}"
        for name in (
            *("float32", "float64", "half", "bfloat16", "complex64", "complex128", "bool", "string"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
            *("qint8", "qint16", "qint32", "quint8", "quint16"),
        )
    }


def test_packed_values_and_tensor_content_are_the_same_request(server: Server) -> None:
    import struct

    values = [0.5, -1.25, 3e38]
    packed = server.predict(predict_request("shapes", "half_plus_three", x=floats([3], values)))
    raw = tensor(DataType.DT_FLOAT, [3], tensor_content=struct.pack("<3f", *values))
    assert server.predict(predict_request("shapes", "half_plus_three", x=raw)) == packed
    assert list(packed.outputs["y"].float_val)[:2] == [3.25, 2.375]


def test_one_value_fills_a_shape_as_tensorflow_reads_it(server: Server) -> None:
    response = server.predict(predict_request("shapes", "half_plus_three", x=floats([4], [2.0])))
    assert list(response.outputs["y"].float_val) == [4.0] * 4


def test_model_spec_tells_name_signature_and_version(server: Server) -> None:
    request = predict_request("net", "predict_images", images=floats([1, 784], [0.0]))
    spec = server.predict(request).model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("net", "predict_images", 2)


def test_a_version_can_be_asked_for(server: Server) -> None:
    request = predict_request("net", "predict_images", images=floats([1, 784], [1.0]))
    newest = server.predict(request)
    request.model_spec.version.value = 1
    older = server.predict(request)
    assert older.model_spec.version.value == 1
    assert older.outputs != newest.outputs
    request.model_spec.version.value = 2
    assert server.predict(request) == newest


def test_output_filter_picks_outputs(server: Server) -> None:
    request = predict_request("shapes", "two", a=floats([1, 2], [1, 2]), b=floats([1, 2], [3, 5]))
    assert set(server.predict(request).outputs) == {"sum", "difference", "rows"}
    request.output_filter.extend(["rows", "sum"])
    response = server.predict(request)
    assert set(response.outputs) == {"rows", "sum"}
    assert list(response.outputs["sum"].float_val) == [4, 7]
    assert list(response.outputs["rows"].int_val) == [1]


def test_a_signatures_default_stands_for_a_missing_input(server: Server) -> None:
    response = server.predict(predict_request("shapes", "two_defaulted", a=floats([1, 2], [10, 20])))
    assert list(response.outputs["sum"].float_val) == [11, 22]


def test_classify_agrees_with_predict(server: Server) -> None:
    pixels = [[(row * 31 + at) % 256 / 255 for at in range(784)] for row in range(3)]
    request = messages.ClassificationRequest()
    request.model_spec.name = "net"
    request.input.example_list.examples.extend(example(x=line) for line in pixels)
    response = server.classify(request)
    images = floats([3, 784], [value for line in pixels for value in line])
    scores = content(
        server.predict(predict_request("net", "predict_images", images=images)).outputs["scores"]
    )
    assert response.model_spec.signature_name == "serving_default"
    assert response.model_spec.version.value == 2
    assert len(response.result.classifications) == 3
    import struct

    table = struct.unpack("<30f", scores)
    for row, line in enumerate(response.result.classifications):
        expected = sorted(((table[row * 10 + at], str(at)) for at in range(10)), reverse=True)
        assert [(item.score, item.label) for item in line.classes] == expected


def test_classify_puts_the_context_before_each_example(server: Server) -> None:
    with_context = messages.ClassificationRequest()
    with_context.model_spec.name = "net"
    both = with_context.input.example_list_with_context
    both.context.CopyFrom(example(x=[0.5] * 784))
    both.examples.add()
    plain = messages.ClassificationRequest()
    plain.model_spec.name = "net"
    plain.input.example_list.examples.add().CopyFrom(example(x=[0.5] * 784))
    assert server.classify(with_context) == server.classify(plain)


def test_regress(server: Server) -> None:
    request = messages.RegressionRequest()
    request.model_spec.name = "shapes"
    request.model_spec.signature_name = "regress"
    request.input.example_list.examples.extend([example(x=[2.0]), example(x=[-1.0]), example()])
    response = server.regress(request)
    assert [item.value for item in response.result.regressions] == [7.0, 1.0, 5.0]


def test_metadata_lists_every_signature(server: Server) -> None:
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "net"
    response = server.metadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("net", 2)
    signatures = messages.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    images = signatures.signature_def["predict_images"].inputs["images"]
    assert [dim.size for dim in images.tensor_shape.dim] == [-1, 784]
    assert signatures.signature_def["serving_default"].method_name == "tensorflow/serving/classify"


def test_status_of_versions(server: Server) -> None:
    assert server.states("net") == {1: "AVAILABLE", 2: "AVAILABLE"}
    (one,) = server.status("net", 1).model_version_status
    assert (one.version, one.state, one.status.error_code) == (1, 30, 0)


def test_what_is_not_built_says_so(server: Server) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.raw("tensorflow.serving.SessionService/SessionRun", b"")
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
