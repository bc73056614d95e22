"""The gRPC port: PredictionService, ModelService, health and reflection over grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from slipway_client import messages

from slipway_server import access_log, log
from slipway_server.access_log import Record
from slipway_server.arrivals import Arrivals
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.examples import of_input
from slipway_server.grpc_calls import guarded, listen, parse, serialized, with_token
from slipway_server.health import Health
from slipway_server.health import handlers as health_handlers
from slipway_server.memory import MIB, Budget, Claim, Full
from slipway_server.reflection import Reflection
from slipway_server.servable import Servable
from slipway_server.service import Api, Service
from slipway_server.steps import Steps
from slipway_server.tls import Tls
from slipway_server.tokens import Tokens
from slipway_server.wire import memory_of

MOST_IN_FLIGHT = 1024
_FEW = 256  # fields that are counted in the event loop itself

_Answer = Callable[[bytes, Claim], Awaitable[bytes]]
_Handler = Callable[[Any, Any], Awaitable[bytes]]


@dataclass(frozen=True)
class GrpcOptions:
    """How gRPC is opened.

    socket: a UNIX socket beside the port, if any. arguments: of gRPC's own, by their names. tls, tokens: None
    for everybody. reflection, access_log: whether they are on. shared: the port is several
    processes'.
    """

    port: int
    socket: str = ""
    arguments: tuple[tuple[str, int | str], ...] = ()
    tls: Tls | None = None
    tokens: Tokens | None = None
    reflection: bool = False
    access_log: bool = False
    shared: bool = False


class GrpcServer:
    """The gRPC port. `start`, then `stop`; once each."""

    def __init__(
        self,
        service: Service,
        health: Health | None,
        options: GrpcOptions,
        budget: Budget,
        largest_message: int,
    ) -> None:
        """health: None leaves the health service out. largest_message: bytes of a request at most."""
        self._service = service
        self._options = options
        self._budget = budget
        self._in_flight = 0
        self._parsing = asyncio.Lock()
        self.arrivals = Arrivals(budget)
        # Large messages are looked through in a thread of their own, one after the other: two would only
        # take turns, and keep the event loop waiting twice as often.
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read")
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", largest_message),
                ("grpc.max_send_message_length", -1),  # an answer is as large as the model makes it
                # A second server on this port must fail, not share it, if it is not one of several processes.
                ("grpc.so_reuseport", int(options.shared)),
                *options.arguments,
            ),
        )
        self._add(
            "tensorflow.serving.PredictionService",
            Predict=self._predict,
            Classify=self._classify,
            Regress=self._regress,
            MultiInference=self._multi_inference,
            GetModelMetadata=self._metadata,
        )
        self._add(
            "tensorflow.serving.ModelService",
            GetModelStatus=self._model_status,
            HandleReloadConfigRequest=self._reload,
        )
        if health is not None:  # open to all: a probe has no token
            self._server.add_generic_rpc_handlers((health_handlers(health, self.arrivals),))
        self._reflection = Reflection(health is not None) if options.reflection else None
        if self._reflection is not None:
            self._server.add_generic_rpc_handlers(self._reflection.handlers(options.tokens))

    async def start(self) -> None:
        """Listen on every address. Raises EnvironmentFault when port or socket cannot be had."""
        options = self._options
        listen(self._server, f"[::]:{options.port}", options.tls, f"port {options.port}", "--port")
        if options.socket:
            address = f"unix:{options.socket}"
            listen(self._server, address, options.tls, options.socket, "--grpc_socket_path")
        await self._server.start()
        log.event("listening", entrypoint="GRPC", port=options.port, tls=options.tls is not None)

    async def stop(self, grace: float) -> None:
        """Refuse new requests, wait up to `grace` seconds for those under way, then cancel them."""
        if self._reflection is not None:
            await self._reflection.end()
        await self._server.stop(grace)
        if self._options.socket:
            Path(self._options.socket).unlink(missing_ok=True)
        self._reading.shutdown(wait=False)

    def _add(self, service: str, **methods: _Answer) -> None:
        handlers = {
            # On the wire one request is a stream of one, and only a stream lets its handler say when to read.
            name: grpc.stream_unary_rpc_method_handler(
                guarded(self._entered(service, name, self._admitted(answer)))
            )
            for name, answer in methods.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _entered(self, service: str, method: str, handler: _Handler) -> _Handler:
        """With what is on of tokens, traces and access log; without them the handler itself."""
        if self._service.tracing is not None:
            handler = self._service.tracing.traced(service, method, handler)
        if self._options.tokens is not None:
            handler = with_token(self._options.tokens, handler)
        return _told(method, handler) if self._options.access_log else handler

    def _admitted(self, answer: _Answer) -> _Handler:
        """Read the message when there is room, and hold what the request claims until its answer is sent."""

        async def handler(_: Any, context: Any) -> bytes:
            if self._in_flight >= MOST_IN_FLIGHT:
                raise StatusError(Code.RESOURCE_EXHAUSTED, "too many requests under way")
            self._in_flight += 1
            claim = self._budget.claim()
            context.add_done_callback(lambda _: claim.release())
            try:
                message = await self.arrivals.message(context)
                access_log.arrived(len(message))
                return await answer(message, claim)
            finally:
                self._in_flight -= 1

        return handler

    async def _claimed(self, kind: Any, raw: bytes, claim: Claim) -> Any:
        """The message, parsed once there is room for all that it will take."""
        try:
            size = memory_of(raw, kind, _FEW)
        except Full:
            loop = asyncio.get_running_loop()
            size = await loop.run_in_executor(self._reading, memory_of, raw, kind)
        if not claim.grown(size):
            await self._budget.wait(claim, size)
        if len(raw) <= MIB:
            return parse(kind, raw)
        async with self._parsing:  # one in a turn of the event loop, so that a probe comes between two
            await asyncio.sleep(0)
            return parse(kind, raw)

    async def _predict(self, raw: bytes, claim: Claim) -> bytes:
        request = _with_spec(await self._claimed(messages.PredictRequest, raw, claim))
        spec, size = request.model_spec, len(raw)
        del raw  # parsed: its bytes are needed no more
        answer = self._service.answer(
            "Predict", spec, size, lambda servable: servable.predict(request, claim.grow)
        )
        return await self._service.counted("Predict", "GRPC", spec.name, answer)

    async def _classify(self, raw: bytes, claim: Claim) -> bytes:
        request = _with_spec(await self._claimed(messages.ClassificationRequest, raw, claim))
        return await self._about_examples("Classify", request, len(raw), claim)

    async def _regress(self, raw: bytes, claim: Claim) -> bytes:
        request = _with_spec(await self._claimed(messages.RegressionRequest, raw, claim))
        return await self._about_examples("Regress", request, len(raw), claim)

    async def _about_examples(self, api: Api, request: Any, size: int, claim: Claim) -> bytes:
        spec = request.model_spec

        def steps(servable: Servable) -> Steps[bytes]:
            ask = servable.classify if api == "Classify" else servable.regress
            return serialized((yield from ask(spec, of_input(request.input), claim.grow)))

        answer = self._service.answer(api, spec, size, steps)
        return await self._service.counted(api, "GRPC", spec.name, answer)

    async def _multi_inference(self, raw: bytes, claim: Claim) -> bytes:
        request = await self._claimed(messages.MultiInferenceRequest, raw, claim)
        return serialized(await self._service.multi_inference(request, len(raw), claim.grow))

    async def _metadata(self, raw: bytes, claim: Claim) -> bytes:
        request = await self._claimed(messages.GetModelMetadataRequest, raw, claim)
        return serialized(self._service.metadata(request))

    async def _model_status(self, raw: bytes, claim: Claim) -> bytes:
        request = await self._claimed(messages.GetModelStatusRequest, raw, claim)
        return serialized(self._service.model_status(request))

    async def _reload(self, raw: bytes, claim: Claim) -> bytes:
        request = await self._claimed(messages.ReloadConfigRequest, raw, claim)
        return serialized(await self._service.reload(request))


def _told(method: str, handler: _Handler) -> _Handler:
    async def telling(request: Any, context: Any) -> bytes:
        with access_log.told(Record("GRPC", method, context.peer())) as record:
            try:
                answer = await handler(request, context)
            except StatusError as error:
                record.code = error.code.name
                raise
            except BaseException:
                record.code = "INTERNAL"
                raise
            record.bytes_out = len(answer)
            return answer

    return telling


def _with_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request
