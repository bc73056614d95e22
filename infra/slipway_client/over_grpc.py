"""The client over gRPC."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from slipway_client import client, messages
from slipway_client.client import Answer, Examples, Metadata, Signature, TensorSpec, VersionStatus
from slipway_client.errors import RequestFailed
from slipway_client.requests import Array, FixedRequest
from slipway_client.tensors import dtype_name, fill_example, from_proto, to_proto

# gRPC's C core writes what it tries to stderr; what matters comes as an error with its words.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

Message = Any  # protobuf's classes are made at run time

_STATES = messages.ModelVersionStatus.State
# Method -> its service and the class of its answer.
_METHODS = {
    "Predict": ("PredictionService", messages.PredictResponse),
    "Classify": ("PredictionService", messages.ClassificationResponse),
    "Regress": ("PredictionService", messages.RegressionResponse),
    "GetModelMetadata": ("PredictionService", messages.GetModelMetadataResponse),
    "GetModelStatus": ("ModelService", messages.GetModelStatusResponse),
}
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # The addresses of a cluster and of a tunnel are not for a proxy to reach.
    ("grpc.enable_http_proxy", 0),
    # A retry would hide an error from the statistics.
    ("grpc.enable_retries", 0),
    # Two clients of one address must not share a connection that one of them closes.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class GrpcClient(client.Client):
    """PredictionService and ModelService of one server."""

    transport = "grpc"

    def __init__(self, server: str, *, timeout: float = 10.0, tls: client.Tls | None = None) -> None:
        super().__init__(server, timeout=timeout, tls=tls)
        target = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if tls is None:
            self._channel = grpc.insecure_channel(target, _OPTIONS)
        else:
            trust = grpc.ssl_channel_credentials(tls.pem or None)
            self._channel = grpc.secure_channel(target, trust, _OPTIONS)
        self._methods = {
            name: self._channel.unary_unary(
                f"/tensorflow.serving.{service}/{name}",
                request_serializer=_wire,
                response_deserializer=answer.FromString,
            )
            for name, (service, answer) in _METHODS.items()
        }

    def status(self, model: str) -> tuple[VersionStatus, ...]:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = model
        answer = self._call("GetModelStatus", request, model)
        return tuple(
            VersionStatus(one.version, _state(one.state), one.status.error_message)
            for one in answer.model_version_status
        )

    def metadata(self, model: str, version: int | None = None) -> Metadata:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        _spec(request, model, "", version)
        answer = self._call("GetModelMetadata", request, model)
        packed = messages.SignatureDefMap()
        with self._reading():
            if not answer.metadata["signature_def"].Unpack(packed):
                raise ValueError("metadata without a signature_def")
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
        *,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> Answer:
        request = predict_request(model, signature, inputs, version=version, output_filter=output_filter)
        return self._predicted(self._call("Predict", request, model))

    def classify(
        self, model: str, signature: str, examples: Examples, *, version: int | None = None
    ) -> Answer:
        request = classify_request(model, signature, examples, version=version)
        return self._classified(self._call("Classify", request, model))

    def regress(
        self, model: str, signature: str, examples: Examples, *, version: int | None = None
    ) -> Answer:
        request = regress_request(model, signature, examples, version=version)
        return self._regressed(self._call("Regress", request, model))

    def prepare(self, model: str, request: FixedRequest) -> Callable[[], Answer]:
        if request.method == "predict":
            wire = predict_request(model, request.signature, request.inputs).SerializeToString()
            return lambda: self._predicted(self._call("Predict", wire, model))
        if request.method == "regress":
            wire = regress_request(model, request.signature, request.examples).SerializeToString()
            return lambda: self._regressed(self._call("Regress", wire, model))
        wire = classify_request(model, request.signature, request.examples).SerializeToString()
        return lambda: self._classified(self._call("Classify", wire, model))

    def close(self) -> None:
        self._channel.close()

    def _predicted(self, answer: Message) -> Answer:
        with self._reading():
            outputs = {name: from_proto(one) for name, one in answer.outputs.items()}
        return Answer(outputs, _version(answer))

    def _classified(self, answer: Message) -> Answer:
        listed = answer.result.classifications
        rows = [[(one.label.encode(), one.score) for one in row.classes] for row in listed]
        with self._reading():
            return Answer(client.classification(rows), _version(answer))

    def _regressed(self, answer: Message) -> Answer:
        values = [one.value for one in answer.result.regressions]
        return Answer({"outputs": np.array(values, np.float32)}, _version(answer))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn a failure to read an answer into an error that blames the server, whatever it sent."""
        try:
            yield
        except (DecodeError, ValueError, ArithmeticError) as error:
            raise self.unreadable(str(error)) from error

    def _call(self, method: str, request: Message | bytes, model: str) -> Message:
        try:
            return self._methods[method](request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self._failure(error, model) from error

    def _failure(self, error: Any, model: str) -> RequestFailed:
        code, said = error.code().name, error.details() or ""
        if code == "UNAVAILABLE":
            return self.unreachable(said)
        if code == "DEADLINE_EXCEEDED":
            return self.timed_out()
        return self.refused(code, said, model)


def _wire(request: Message | bytes) -> bytes:
    """A request's bytes; those of a prepared one are written already."""
    return request if isinstance(request, bytes) else bytes(request.SerializeToString())


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
    request = messages.ClassificationRequest()
    _spec(request, model, signature, version)
    _fill(request.input.example_list.examples, examples)
    return request


def regress_request(model: str, signature: str, examples: Examples, *, version: int | None = None) -> Message:
    """A RegressionRequest with one tf.Example per example."""
    request = messages.RegressionRequest()
    _spec(request, model, signature, version)
    _fill(request.input.example_list.examples, examples)
    return request


def _fill(listed: Any, examples: Examples) -> None:
    for example in examples:
        fill_example(listed.add(), example)


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
        client.METHODS.get(one.method_name, one.method_name),
        {key: _tensor(info) for key, info in one.inputs.items()},
        {key: _tensor(info) for key, info in one.outputs.items()},
        frozenset(one.defaults),
    )


def _tensor(info: Message) -> TensorSpec:
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(None if d.size < 0 else int(d.size) for d in shape.dim)
    return TensorSpec(dtype_name(info.dtype), sizes)
