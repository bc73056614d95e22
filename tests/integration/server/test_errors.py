"""What a bad gRPC request is answered with.

Each case names where TensorFlow Serving (github.com/tensorflow/serving at 9d981c5, unless a file of
tensorflow/tensorflow is named) takes the same code and text from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from slipway_client import messages
from slipway_client.dtypes import DataType

from .conftest import MODEL, PREDICTION, Server, predict_request
from .protos import INT32, STRING, example, floats, tensor

X = floats([2], [1, 2])


def predict(model: str = "shapes", signature: str = "half_plus_three", **inputs: Any) -> Any:
    return predict_request(model, signature, **(inputs or {"x": X}))


def changed(request: Any, change: Callable[[Any], Any]) -> Any:
    change(request)
    return request


def classify(model: str = "net", signature: str = "", *examples: Any) -> Any:
    request = messages.ClassificationRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(examples)
    return request


def regress(signature: str, *examples: Any) -> Any:
    request = messages.RegressionRequest()
    request.model_spec.name = "shapes"
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(examples)
    return request


def metadata(model: str = "net", *fields: str) -> Any:
    request = messages.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    return request


def status(model: str, number: int | None = None) -> Any:
    request = messages.GetModelStatusRequest()
    request.model_spec.name = model
    if number is not None:
        request.model_spec.version.value = number
    return request


# (request, method, code, pattern of the whole text, where upstream has it)
CASES: dict[str, tuple[Any, str, str, str, str]] = {
    "no model spec": (
        messages.PredictRequest(),
        "Predict",
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
        "servables/tensorflow/predict_impl.cc:37",
    ),
    "no model name": (
        predict(""),
        "Predict",
        "INVALID_ARGUMENT",
        r"ModelSpec has no name specified\.",
        "model_servers/server_core.cc:844",
    ),
    "unknown model": (
        predict("nobody"),
        "Predict",
        "NOT_FOUND",
        r"Servable not found for request: Latest\(nobody\)",
        "core/basic_manager.cc:139, core/manager.h:150",
    ),
    "unknown version": (
        changed(predict(), lambda it: setattr(it.model_spec.version, "value", 7)),
        "Predict",
        "NOT_FOUND",
        r"Servable not found for request: Specific\(shapes, 7\)",
        "core/basic_manager.cc:139, core/manager.h:150",
    ),
    "unknown version label": (
        changed(predict(), lambda it: setattr(it.model_spec, "version_label", "stable")),
        "Predict",
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
        "model_servers/server_core.cc:891",
    ),
    "unknown signature": (
        predict(signature="nothing"),
        "Predict",
        "FAILED_PRECONDITION",
        r'Serving signature key "nothing" not found\.',
        "servables/tensorflow/predict_util.cc, RunPredict",
    ),
    "no default signature": (
        predict(signature=""),
        "Predict",
        "FAILED_PRECONDITION",
        r'Serving signature key "serving_default" not found\.',
        "servables/tensorflow/predict_util.cc, RunPredict",
    ),
    "wrong input name": (
        predict(z=X),
        "Predict",
        "INVALID_ARGUMENT",
        r"Signature input alias: x\(feed name: half_plus_three_x:0\) not found in request and no default value "
        r"provided\. Inputs expected to be in the request \{z\}, or default input alias set: ",
        "tensorflow cc/saved_model/util.cc, GetInputValues",
    ),
    "input too many": (
        predict(x=X, z=X),
        "Predict",
        "INVALID_ARGUMENT",
        r"input size does not match signature: 2!=1 len\(\{x,z\}\) != len\(\{x\}\)\. Sent extra: \{z\}\. "
        r"Missing but required: \{\}\.",
        "servables/tensorflow/predict_util.cc, VerifyRequestInputsSize",
    ),
    "input missing": (
        predict(signature="two", a=X),
        "Predict",
        "INVALID_ARGUMENT",
        r"input size does not match signature: 1!=2 len\(\{a\}\) != len\(\{a,b\}\)\. Sent extra: \{\}\. "
        r"Missing but required: \{b\}\.",
        "servables/tensorflow/predict_util.cc, VerifyRequestInputsSize",
    ),
    "wrong name beside a default": (
        predict(signature="two_defaulted", a=floats([1, 2], [1, 2]), z=X),
        "Predict",
        "INVALID_ARGUMENT",
        r"Inputs contains invalid name\. Used request inputs: a, request input: a,z",
        "tensorflow cc/saved_model/util.cc, GetInputValues",
    ),
    "unknown output": (
        changed(predict(), lambda it: it.output_filter.append("z")),
        "Predict",
        "INVALID_ARGUMENT",
        r"output tensor alias not found in signature: z Outputs expected to be in the set \{y\}\.",
        "servables/tensorflow/predict_util.cc, PreProcessPrediction",
    ),
    "output twice": (
        changed(predict(), lambda it: it.output_filter.extend(["y", "y"])),
        "Predict",
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: y",
        "servables/tensorflow/predict_util.cc, PreProcessPrediction",
    ),
    "wrong dtype": (
        predict(x=tensor(INT32, [2], int_val=[1, 2])),
        "Predict",
        "INVALID_ARGUMENT",
        r"Expects arg\[0\] to be float but int32 is provided",
        "tensorflow core/framework/function.cc, FunctionCallFrame::SetArgs",
    ),
    "wrong shape": (
        predict("net", "predict_images", images=floats([1, 3], [1, 2, 3])),
        "Predict",
        "INVALID_ARGUMENT",
        r"Matrix size-incompatible: In\[0\]: \[1,3\], In\[1\]: \[784,256\][\s\S]*",
        "tensorflow core/kernels/matmul_op_impl.h",
    ),
    "wrong rank": (
        predict("net", "predict_images", images=floats([784], [0.5])),
        "Predict",
        "INVALID_ARGUMENT",
        # which of the two is said differs from processor to processor
        r"In\[0\] (is not a matrix|and In\[1\] has different ndims)[\s\S]*",
        "tensorflow core/kernels/matmul_op_impl.h",
    ),
    "content too short": (
        predict(x=tensor(DataType.DT_FLOAT, [2], tensor_content=b"1234567")),
        "Predict",
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
        "tensorflow cc/saved_model/util.cc, GetInputValues",
    ),
    "no dtype": (
        predict(x=messages.TensorProto()),
        "Predict",
        "INVALID_ARGUMENT",
        "tensor parsing error: x.*",
        "tensorflow cc/saved_model/util.cc, GetInputValues",
    ),
    "negative dimension": (
        predict(x=floats([-1], [1])),
        "Predict",
        "INVALID_ARGUMENT",
        "tensor parsing error: x.*",
        "tensorflow cc/saved_model/util.cc, GetInputValues",
    ),
    "no classification signature of that name": (
        classify("net", "nothing", example(x=[0])),
        "Classify",
        "INVALID_ARGUMENT",
        "No signature was found with the name: nothing",
        "servables/tensorflow/classifier.cc, GetClassificationSignatureDef",
    ),
    "classify without examples": (
        classify("net"),
        "Classify",
        "INVALID_ARGUMENT",
        r"Input is empty\.",
        "servables/tensorflow/util.cc, InputToSerializedExampleTensor",
    ),
    "classify on a predict signature": (
        classify("net", "predict_images", example(x=[0])),
        "Classify",
        "INVALID_ARGUMENT",
        r"No classification inputs found in SignatureDef: [\s\S]*",
        "servables/tensorflow/classifier.cc, PreProcessClassification",
    ),
    "classify on two inputs": (
        classify("shapes", "two", example(x=[0])),
        "Classify",
        "INVALID_ARGUMENT",
        r"Expected one input Tensor\.",
        "servables/tensorflow/classifier.cc, PreProcessClassification",
    ),
    "classify an example without its feature": (
        classify("net", "", example(y=[0])),
        "Classify",
        "INVALID_ARGUMENT",
        r"[\s\S]*Feature: x \(data type: float\) is required but could not be found[\s\S]*",
        "tensorflow core/util/example_proto_fast_parsing.cc",
    ),
    "scores for another number of examples": (
        classify("shapes", "narrow", example(x=[0])),
        "Classify",
        "INVALID_ARGUMENT",
        r"Expected scores output batch size of 1\. Got: 2",
        "servables/tensorflow/classifier.cc, PostProcessClassificationResult",
    ),
    "no model spec to classify": (
        messages.ClassificationRequest(),
        "Classify",
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
        "servables/tensorflow/classification_service.cc:37",
    ),
    "regress on a signature with two outputs": (
        regress("reverse", example(x=[0])),
        "Regress",
        "INVALID_ARGUMENT",
        r"Expected one output Tensor\.",
        "servables/tensorflow/regressor.cc, PreProcessRegression",
    ),
    "regress on other inputs": (
        regress("half_plus_three", example(x=[0])),
        "Regress",
        "INVALID_ARGUMENT",
        r"No regression inputs found in SignatureDef: [\s\S]*",
        "servables/tensorflow/regressor.cc, PreProcessRegression",
    ),
    "regress on classification outputs": (
        regress("narrow", example(x=[0])),
        "Regress",
        "INVALID_ARGUMENT",
        r"No regression outputs found in SignatureDef: [\s\S]*",
        "servables/tensorflow/regressor.cc, PreProcessRegression",
    ),
    "metadata of nothing": (
        metadata("net"),
        "GetModelMetadata",
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
        "servables/tensorflow/get_model_metadata_impl.cc:35",
    ),
    "metadata unknown": (
        metadata("net", "graph"),
        "GetModelMetadata",
        "INVALID_ARGUMENT",
        "Metadata field graph is not supported",
        "servables/tensorflow/get_model_metadata_impl.cc:40",
    ),
    "metadata of an unknown model": (
        metadata("nobody", "signature_def"),
        "GetModelMetadata",
        "NOT_FOUND",
        r"Servable not found for request: Latest\(nobody\)",
        "core/basic_manager.cc:139",
    ),
    "metadata without a model spec": (
        messages.GetModelMetadataRequest(metadata_field=["signature_def"]),
        "GetModelMetadata",
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
        "servables/tensorflow/get_model_metadata_impl.cc:72",
    ),
    "status of an unknown model": (
        status("nobody"),
        "GetModelStatus",
        "NOT_FOUND",
        "Could not find any versions of model nobody",
        "model_servers/get_model_status_impl.cc, GetModelStatusWithModelSpec",
    ),
    "status of an unknown version": (
        status("net", 9),
        "GetModelStatus",
        "NOT_FOUND",
        "Could not find version 9 of model net",
        "model_servers/get_model_status_impl.cc, GetModelStatusWithModelSpec",
    ),
    "status without a model spec": (
        messages.GetModelStatusRequest(),
        "GetModelStatus",
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
        "model_servers/get_model_status_impl.cc, GetModelStatus",
    ),
    "reload without a list": (
        messages.ReloadConfigRequest(),
        "HandleReloadConfigRequest",
        "INVALID_ARGUMENT",
        r"ServerModelConfig type not supported by HandleReloadConfigRequest\. Only ModelConfigList is currently "
        "supported",
        "model_servers/model_service_impl.cc, HandleReloadConfigRequest",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_code_and_text_are_upstreams(server: Server, case: str) -> None:
    request, method, code, pattern, _source = CASES[case]
    service = MODEL if method in ("GetModelStatus", "HandleReloadConfigRequest") else PREDICTION
    with pytest.raises(grpc.RpcError) as caught:
        server.raw(f"{service}/{method}", request.SerializeToString())
    failure: Any = caught.value
    assert failure.code().name == code, failure.details()
    assert re.fullmatch(pattern, failure.details()), failure.details()


@pytest.mark.parametrize(
    "method",
    [
        *(f"{PREDICTION}/{name}" for name in ("Predict", "Classify", "Regress", "GetModelMetadata")),
        *(f"{MODEL}/{name}" for name in ("GetModelStatus", "HandleReloadConfigRequest")),
        "grpc.health.v1.Health/Check",
    ],
)
def test_bytes_that_are_no_message_are_internal_as_grpc_prescribes(server: Server, method: str) -> None:
    # grpc/grpc doc/statuscodes.md: "Error parsing request proto ... INTERNAL, Server"
    with pytest.raises(grpc.RpcError) as caught:
        server.raw(method, b"\x0a\xff\xff\xff\xff\x0f")
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.INTERNAL
    assert "is not a valid" in failure.details()


def test_a_long_text_is_cut_as_upstream_cuts_it(server: Server) -> None:
    # model_servers/grpc_status_util.cc: 1,024 bytes and "...TRUNCATED"
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(predict("m" * 5000))
    failure: Any = caught.value
    assert failure.details().endswith("...TRUNCATED")
    assert len(failure.details()) == 1024 + len("...TRUNCATED")


def test_a_reload_that_is_refused_changes_nothing(server: Server) -> None:
    for texts, code, pattern in (
        (
            [("net", "/x", "tensorflow"), ("net", "/y", "tensorflow")],
            "INVALID_ARGUMENT",
            "Illegal to list model net.*",
        ),
        (
            [("net", "relative", "tensorflow")],
            "INVALID_ARGUMENT",
            "Expected model net to have an absolute path.*",
        ),
        ([("net", "/x", "")], "INVALID_ARGUMENT", "Illegal setting neither ModelServerConfig::model_type.*"),
        (
            # server_core.cc:174, ValidateNoModelsChangePlatforms
            [("net", "/x", "caffe")],
            "INVALID_ARGUMENT",
            r"Illegal to change a model's platform\. For model net platform was tensorflow and new platform "
            "requested is caffe",
        ),
        (
            # server_core.cc:663, CreateStoragePathRoutes
            [("other", "/x", "caffe")],
            "INVALID_ARGUMENT",
            "Model other requests unsupported platform caffe",
        ),
    ):
        request = messages.ReloadConfigRequest()
        for name, path, platform in texts:
            request.config.model_config_list.config.add(name=name, base_path=path, model_platform=platform)
        with pytest.raises(grpc.RpcError) as caught:
            server.reload(request)
        failure: Any = caught.value
        assert failure.code().name == code
        assert re.fullmatch(pattern, failure.details()), failure.details()
    assert server.states("net") == {1: "AVAILABLE", 2: "AVAILABLE"}


def test_strings_where_numbers_belong(server: Server) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(predict(x=tensor(STRING, [1], string_val=[b"1"])))
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "string is provided" in failure.details()
