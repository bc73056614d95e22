"""TensorFlow Serving's API over gRPC: PredictionService and ModelService."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipway_client import messages
from slipway_client.interface import (
    METHODS,
    Answer,
    Api,
    Examples,
    Metadata,
    Request,
    Signature,
    Steps,
    TensorSpec,
    VersionStatus,
    classification,
    regression,
)
from slipway_client.json_values import Array
from slipway_client.requests import FixedRequest
from slipway_client.tensors import dtype_name, fill_example, from_proto, to_proto

Message = Any  # protobuf's classes are made at run time

_STATES = messages.ModelVersionStatus.State


class TensorFlowOverGrpc(Api):
    """Requests as TensorFlow's own functions would make them."""

    def status(self, model: str) -> Steps[tuple[VersionStatus, ...]]:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = model
        reply = yield _asking("ModelService", "GetModelStatus", request)
        body = self.accepted(reply, model)
        with self.reading("a status"):
            answer = messages.GetModelStatusResponse.FromString(body)
            return tuple(
                VersionStatus(one.version, _state(one.state), one.status.error_message)
                for one in answer.model_version_status
            )

    def metadata(self, model: str, version: int | None) -> Steps[Metadata]:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        _spec(request, model, "", version)
        reply = yield _asking("PredictionService", "GetModelMetadata", request)
        body = self.accepted(reply, model)
        with self.reading("metadata"):
            answer = messages.GetModelMetadataResponse.FromString(body)
            packed = messages.SignatureDefMap()
            if not answer.metadata["signature_def"].Unpack(packed):
                raise ValueError("no signature_def")
            return Metadata(
                answer.model_spec.name or model,
                _version(answer),
                {name: _signature(name, one) for name, one in packed.signature_def.items()},
            )

    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        version: int | None,
        output_filter: Sequence[str],
    ) -> Steps[Answer]:
        request = predict_request(model, signature, inputs, version=version, output_filter=output_filter)
        return (yield from self._predicted(_asking("PredictionService", "Predict", request), model))

    def classify(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        request = classify_request(model, signature, examples, version=version)
        return (yield from self._classified(_asking("PredictionService", "Classify", request), model))

    def regress(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        request = regress_request(model, signature, examples, version=version)
        return (yield from self._regressed(_asking("PredictionService", "Regress", request), model))

    def prepare(self, model: str, request: FixedRequest) -> Steps[Callable[[], Steps[Answer]]]:
        yield from ()
        if request.method == "predict":
            predict = predict_request(model, request.signature, request.inputs)
            sent = _asking("PredictionService", "Predict", predict)
            return lambda: self._predicted(sent, model)
        if request.method == "classify":
            classify = classify_request(model, request.signature, request.examples)
            asked = _asking("PredictionService", "Classify", classify)
            return lambda: self._classified(asked, model)
        regress = regress_request(model, request.signature, request.examples)
        wanted = _asking("PredictionService", "Regress", regress)
        return lambda: self._regressed(wanted, model)

    def _predicted(self, request: Request, model: str) -> Steps[Answer]:
        body = self.accepted((yield request), model)
        with self.reading("a prediction"):
            answer = messages.PredictResponse.FromString(body)
            outputs = {name: from_proto(tensor) for name, tensor in answer.outputs.items()}
            return Answer(outputs, _version(answer))

    def _classified(self, request: Request, model: str) -> Steps[Answer]:
        body = self.accepted((yield request), model)
        with self.reading("a classification"):
            answer = messages.ClassificationResponse.FromString(body)
            rows = [
                [(one.label.encode(), one.score) for one in row.classes]
                for row in answer.result.classifications
            ]
            return Answer(classification(rows), _version(answer))

    def _regressed(self, request: Request, model: str) -> Steps[Answer]:
        body = self.accepted((yield request), model)
        with self.reading("a regression"):
            answer = messages.RegressionResponse.FromString(body)
            values = [one.value for one in answer.result.regressions]
            return Answer(regression(values), _version(answer))


def _asking(service: str, method: str, request: Message) -> Request:
    return Request(f"/tensorflow.serving.{service}/{method}", request.SerializeToString())


def predict_request(
    model: str,
    signature: str,
    inputs: Mapping[str, Array],
    *,
    version: int | None = None,
    output_filter: Sequence[str] = (),
) -> Message:
    """A PredictRequest, the one TensorFlow's own functions would make."""
    request = messages.PredictRequest(output_filter=output_filter)
    _spec(request, model, signature, version)
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(to_proto(array))
    return request


def classify_request(
    model: str, signature: str, examples: Examples, *, version: int | None = None
) -> Message:
    """A ClassificationRequest with one tf.Example per example."""
    return _with_examples(messages.ClassificationRequest(), model, signature, examples, version)


def regress_request(model: str, signature: str, examples: Examples, *, version: int | None = None) -> Message:
    """A RegressionRequest with one tf.Example per example."""
    return _with_examples(messages.RegressionRequest(), model, signature, examples, version)


def _with_examples(
    request: Message, model: str, signature: str, examples: Examples, version: int | None
) -> Message:
    _spec(request, model, signature, version)
    listed = request.input.example_list.examples
    for example in examples:
        fill_example(listed.add(), example)
    return request


def _spec(request: Message, model: str, signature: str, version: int | None) -> None:
    request.model_spec.name = model
    if signature:
        request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version


def _version(answer: Message) -> int | None:
    spec = answer.model_spec
    return int(spec.version.value) if spec.HasField("version") else None


def _state(number: int) -> str:
    """The state's name; its number when a newer server has a state this client does not know."""
    return str(_STATES.Name(number)) if number in _STATES.values() else str(number)


def _signature(name: str, one: Message) -> Signature:
    return Signature(
        name,
        METHODS.get(one.method_name, one.method_name),
        {key: _tensor(info) for key, info in one.inputs.items()},
        {key: _tensor(info) for key, info in one.outputs.items()},
        frozenset(one.defaults),
    )


def _tensor(info: Message) -> TensorSpec:
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(None if d.size < 0 else int(d.size) for d in shape.dim)
    return TensorSpec(dtype_name(info.dtype), sizes)
