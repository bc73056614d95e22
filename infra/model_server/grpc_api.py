"""gRPC: PredictionService, ModelService and grpc.health.v1.Health over grpc.aio."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

# What gRPC logs on its own also reaches the caller as an error; on stderr it would break the rule of
# one JSON object a line. Read when the library loads.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from google.protobuf import wrappers_pb2
from google.protobuf.message import DecodeError

from infra.core.errors import EnvironmentFault
from infra.model_server import log
from infra.model_server.service import Service
from infra.model_server.status import Code, StatusError, invalid
from infra.predict import stubs

stubs.load()
from tensorflow_serving.apis import (  # noqa: E402  # needs the bare namespace
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

LARGEST_MESSAGE = 64 * 1024 * 1024
MOST_IN_FLIGHT = 1024

_STATUS = {known.value[0]: known for known in grpc.StatusCode}
_Answer = Callable[[bytes], Awaitable[bytes]]


class Health:
    """grpc.health.v1.Health. `serving` is told to every Watch at once.

    Its two messages have one field each, with the number and wire type of StringValue's and
    Int32Value's; with those, no further package is needed for them.
    """

    # TensorFlow Serving sets the first two (model_servers/server.cc); "" is the server as a whole.
    NAMES = frozenset(
        {
            "",
            "ModelService",
            "PredictionService",
            "tensorflow.serving.ModelService",
            "tensorflow.serving.PredictionService",
        }
    )
    SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3

    def __init__(self) -> None:
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        return self._serving

    @serving.setter
    def serving(self, value: bool) -> None:
        if value != self._serving:
            self._serving = value
            self._tell()

    def close(self) -> None:
        """NOT_SERVING from now on; every Watch is told and ends, for a drain would wait for it."""
        self._serving = False
        self._closed = True
        self._tell()

    def status(self, name: str) -> int:
        if name not in self.NAMES:
            return self.SERVICE_UNKNOWN
        return self.SERVING if self._serving else self.NOT_SERVING

    async def check(self, request: bytes) -> bytes:
        name = _parse(wrappers_pb2.StringValue, request, "HealthCheckRequest").value
        status = self.status(name)
        if status == self.SERVICE_UNKNOWN:
            raise StatusError(Code.NOT_FOUND, f"unknown service {name[:200]}")
        return _status_message(status)

    async def watch(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        name = wrappers_pb2.StringValue.FromString(request).value
        told = 0
        while True:
            changed, status = self._changed, self.status(name)
            if status != told:
                told = status
                yield _status_message(status)
            if self._closed:
                return
            await changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class GrpcServer:
    """The gRPC port. `start`, then `stop`; once each."""

    def __init__(self, service: Service, health: Health | None, port: int) -> None:
        """health: None leaves the health service out."""
        self._service = service
        self._port = port
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", LARGEST_MESSAGE),
                ("grpc.max_send_message_length", -1),  # an answer is as large as the model makes it
                ("grpc.so_reuseport", 0),  # a second server on this port must fail, not share it
            ),
            maximum_concurrent_rpcs=MOST_IN_FLIGHT,
        )
        self._add("tensorflow.serving.PredictionService", Predict=self._predict, Classify=self._classify)
        self._add(
            "tensorflow.serving.PredictionService", Regress=self._regress, GetModelMetadata=self._metadata
        )
        self._add(
            "tensorflow.serving.ModelService",
            GetModelStatus=self._model_status,
            HandleReloadConfigRequest=self._reload,
        )
        if health is not None:
            self._add("grpc.health.v1.Health", Check=health.check)
            self._server.add_generic_rpc_handlers(
                (
                    grpc.method_handlers_generic_handler(
                        "grpc.health.v1.Health", {"Watch": grpc.unary_stream_rpc_method_handler(health.watch)}
                    ),
                )
            )

    async def start(self) -> None:
        """Listen on every address. Raises EnvironmentFault when the port cannot be had."""
        try:
            self._server.add_insecure_port(f"[::]:{self._port}")
        except RuntimeError as error:
            raise EnvironmentFault(
                f"cannot listen on port {self._port}",
                tail=str(error),
                action="choose another --port, or end what listens there",
            ) from error
        await self._server.start()
        log.event("listening", entrypoint="GRPC", port=self._port)

    async def stop(self, grace: float) -> None:
        """Refuse new requests, wait up to `grace` seconds for those under way, then cancel them."""
        await self._server.stop(grace)

    def _add(self, service: str, **methods: _Answer) -> None:
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(_guarded(answer)) for name, answer in methods.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    async def _predict(self, raw: bytes) -> bytes:
        request = _with_spec(_parse(predict_pb2.PredictRequest, raw, "PredictRequest"))
        spec = request.model_spec
        answer = self._service.infer("Predict", spec, len(raw), lambda servable: servable.predict(request))
        return await self._service.counted("Predict", "GRPC", spec.name, answer)

    async def _classify(self, raw: bytes) -> bytes:
        request = _with_spec(_parse(classification_pb2.ClassificationRequest, raw, "ClassificationRequest"))
        spec = request.model_spec
        answer = self._service.infer(
            "Classify", spec, len(raw), lambda servable: servable.classify(request).SerializeToString()
        )
        return await self._service.counted("Classify", "GRPC", spec.name, answer)

    async def _regress(self, raw: bytes) -> bytes:
        request = _with_spec(_parse(regression_pb2.RegressionRequest, raw, "RegressionRequest"))
        spec = request.model_spec
        answer = self._service.infer(
            "Regress", spec, len(raw), lambda servable: servable.regress(request).SerializeToString()
        )
        return await self._service.counted("Regress", "GRPC", spec.name, answer)

    async def _metadata(self, raw: bytes) -> bytes:
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, raw, "GetModelMetadataRequest")
        return _serialized(self._service.metadata(request))

    async def _model_status(self, raw: bytes) -> bytes:
        request = _parse(get_model_status_pb2.GetModelStatusRequest, raw, "GetModelStatusRequest")
        return _serialized(self._service.model_status(request))

    async def _reload(self, raw: bytes) -> bytes:
        request = _parse(model_management_pb2.ReloadConfigRequest, raw, "ReloadConfigRequest")
        return _serialized(await self._service.reload(request))


def _guarded(answer: _Answer) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """Failures become gRPC statuses; one that was not foreseen is logged and answered INTERNAL."""

    async def handler(raw: bytes, context: Any) -> bytes:
        try:
            return await answer(raw)
        except StatusError as error:
            code, details = error.code, error.details()
        except Exception as error:  # noqa: BLE001  # the server must outlive any one request
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
            code, details = Code.INTERNAL, "internal error; the server's log has it"
        await context.abort(_STATUS[int(code)], details)
        raise AssertionError("abort raises")

    return handler


def _parse(kind: Any, raw: bytes, name: str) -> Any:
    """A message of `kind`. gRPC itself prescribes INTERNAL for a request that cannot be parsed."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise StatusError(Code.INTERNAL, f"the request is not a valid {name}") from error


def _with_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request


def _serialized(message: Any) -> bytes:
    out: bytes = message.SerializeToString()
    return out


def _status_message(status: int) -> bytes:
    return _serialized(wrappers_pb2.Int32Value(value=status))
