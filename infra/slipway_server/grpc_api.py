"""gRPC: PredictionService, ModelService and grpc.health.v1.Health over grpc.aio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

# gRPC reports errors to its caller too; its own lines on stderr would break the rule of one JSON object
# a line. The variable is read when the library loads.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from slipway_client import messages
from slipway_client.errors import EnvironmentFault

from slipway_server import log
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.examples import of_input
from slipway_server.memory import MIB, Budget, Claim, Full, give_back
from slipway_server.servable import Servable
from slipway_server.service import Api, Service
from slipway_server.steps import Steps
from slipway_server.wire import memory_of

MOST_IN_FLIGHT = 1024
MOST_WATCHES = 1024
ARRIVAL_SECONDS = 300.0  # for a whole request
PROBE_SECONDS = 0.5  # for a health check's, which is a few bytes
_FEW = 256  # fields that are counted in the event loop itself
ROOM_SECONDS = 0.2  # that a request may wait before it is asked for its message
LOOK_SECONDS = 0.02  # between two looks at what arrives; a loopback brings 20 MB meanwhile

_STATUS = {known.value[0]: known for known in grpc.StatusCode}
T = TypeVar("T")
_Answer = Callable[[bytes, Claim], Awaitable[bytes]]


class Health:
    """grpc.health.v1.Health. `serving` is told to every Watch at once."""

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
        self._watches = 0
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
        name = _parse(messages.HealthCheckRequest, request).service
        status = self.status(name)
        if status == self.SERVICE_UNKNOWN:
            raise StatusError(Code.NOT_FOUND, f"unknown service {name[:200]}")
        return _status_message(status)

    async def watch(self, request: bytes, tell: Callable[[bytes], Awaitable[None]]) -> None:
        """Tell the status now and whenever it changes, until the server stops."""
        if self._watches >= MOST_WATCHES:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "too many watches already")
        name = _parse(messages.HealthCheckRequest, request).service
        told = 0
        self._watches += 1
        try:
            while True:
                changed, status = self._changed, self.status(name)
                if status != told:
                    told = status
                    await tell(_status_message(status))
                if self._closed:
                    return
                await changed.wait()
        finally:
            self._watches -= 1

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Arrivals:
    """The requests whose message is still on its way.

    A message is asked for before its size is known, and gRPC gathers it outside of Python. So what arrives is
    measured instead of claimed: while much of it is in memory, new requests wait before they are asked for
    their message, and when it becomes too much, all but the oldest are refused.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        # Context -> when it was asked for its message, the oldest first; those of health checks apart.
        self._under_way: dict[Any, float] = {}
        self._probes: dict[Any, float] = {}
        self._large = 0  # messages over 1 MiB that have come and are not answered yet
        self._looking = False
        self._refusals: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    async def message(self, context: Any, probe: bool = False) -> bytes:
        """The request's message. Raises what gRPC raises in a call that has ended or was refused."""
        loop = asyncio.get_running_loop()
        if (self._large or self._under_way) and not probe:
            await self._room(loop)
        among = self._probes if probe else self._under_way
        among[context] = loop.time()
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_SECONDS, self._look)
        try:
            raw = await context.read()
        finally:
            among.pop(context, None)
        if raw is grpc.aio.EOF:
            raise StatusError(Code.INTERNAL, "the call has no message")
        message: bytes = raw
        if len(message) > MIB:
            self._large += 1
            context.add_done_callback(self._ended)
        return message

    def _ended(self, _context: Any) -> None:
        self._large -= 1

    async def _room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait a moment while the memory is half full of others' messages.

        No longer, for most messages are small and can always come. Looked at only when some may
        be large: it takes longer than a small request.
        """
        deadline = None
        while self._large or (
            self._under_way and loop.time() - next(iter(self._under_way.values())) > LOOK_SECONDS
        ):
            deadline = deadline or loop.time() + ROOM_SECONDS
            if self._budget.used <= self._budget.total // 2 or loop.time() > deadline:
                return
            await asyncio.to_thread(give_back)
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        old = [context for context, began in self._under_way.items() if now - began > LOOK_SECONDS]
        if old and self._budget.used > self._budget.total:
            for context in old[1:]:
                del self._under_way[context]
                self._refuse(context, Full("too many large messages arrive at once; try again"))
        for among, seconds in ((self._under_way, ARRIVAL_SECONDS), (self._probes, PROBE_SECONDS)):
            context = next(iter(among), None)
            if context is not None and now - among[context] > seconds:
                del among[context]
                late = "the request's message did not arrive in time"
                self._refuse(context, StatusError(Code.DEADLINE_EXCEEDED, late))
        self._looking = bool(self._under_way or self._probes)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look)

    def _refuse(self, context: Any, error: StatusError) -> None:
        async def abort() -> None:
            # The handler that reads meets the same end; it is not cancelled, for gRPC's batch is under way.
            with contextlib.suppress(Exception):
                await context.abort(_STATUS[int(error.code)], error.details())

        task = asyncio.ensure_future(abort())
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)


class GrpcServer:
    """The gRPC port. `start`, then `stop`; once each."""

    def __init__(
        self, service: Service, health: Health | None, port: int, budget: Budget, largest_message: int
    ) -> None:
        """health: None leaves the health service out. largest_message: bytes of a request at most."""
        self._service = service
        self._port = port
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
                ("grpc.so_reuseport", 0),  # a second server on this port must fail, not share it
            ),
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
            handlers = {
                "Check": grpc.stream_unary_rpc_method_handler(_guarded(self._checked(health))),
                "Watch": grpc.stream_stream_rpc_method_handler(_guarded(self._watched(health))),
            }
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),)
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
        self._reading.shutdown(wait=False)

    def _add(self, service: str, **methods: _Answer) -> None:
        handlers = {
            # On the wire one request is a stream of one, and only a stream lets its handler say when to read.
            name: grpc.stream_unary_rpc_method_handler(_guarded(self._admitted(answer)))
            for name, answer in methods.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _admitted(self, answer: _Answer) -> Callable[[Any, Any], Awaitable[bytes]]:
        """Read the message when there is room, and hold what the request claims until its answer is sent."""

        async def handler(_: Any, context: Any) -> bytes:
            if self._in_flight >= MOST_IN_FLIGHT:
                raise StatusError(Code.RESOURCE_EXHAUSTED, "too many requests under way")
            self._in_flight += 1
            claim = self._budget.claim()
            context.add_done_callback(lambda _: claim.release())
            try:
                return await answer(await self.arrivals.message(context), claim)
            finally:
                self._in_flight -= 1

        return handler

    def _checked(self, health: Health) -> Callable[[Any, Any], Awaitable[bytes]]:
        """Outside of every limit: a probe is answered however busy the server is."""

        async def handler(_: Any, context: Any) -> bytes:
            return await health.check(await self.arrivals.message(context, probe=True))

        return handler

    def _watched(self, health: Health) -> Callable[[Any, Any], Awaitable[None]]:
        async def handler(_: Any, context: Any) -> None:
            await health.watch(await self.arrivals.message(context, probe=True), context.write)

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
            return _parse(kind, raw)
        async with self._parsing:  # one in a turn of the event loop, so that a probe comes between two
            await asyncio.sleep(0)
            return _parse(kind, raw)

    async def _predict(self, raw: bytes, claim: Claim) -> bytes:
        request = _with_spec(await self._claimed(messages.PredictRequest, raw, claim))
        spec, size = request.model_spec, len(raw)
        del raw  # parsed: its bytes are needed no more
        answer = self._service.answer(
            "Predict", spec, size, lambda servable: servable.predicting(request, claim.grow)
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
            ask = servable.classifying if api == "Classify" else servable.regressing
            return _serialized((yield from ask(spec, of_input(request.input), claim.grow)))

        answer = self._service.answer(api, spec, size, steps)
        return await self._service.counted(api, "GRPC", spec.name, answer)

    async def _metadata(self, raw: bytes, claim: Claim) -> bytes:
        request = await self._claimed(messages.GetModelMetadataRequest, raw, claim)
        return _serialized(self._service.metadata(request))

    async def _model_status(self, raw: bytes, claim: Claim) -> bytes:
        request = await self._claimed(messages.GetModelStatusRequest, raw, claim)
        return _serialized(self._service.model_status(request))

    async def _reload(self, raw: bytes, claim: Claim) -> bytes:
        request = await self._claimed(messages.ReloadConfigRequest, raw, claim)
        return _serialized(await self._service.reload(request))


def _guarded(answer: Callable[[Any, Any], Awaitable[T]]) -> Callable[[Any, Any], Awaitable[T]]:
    """Failures become gRPC statuses; one that was not foreseen is logged and answered INTERNAL."""

    async def handler(request: Any, context: Any) -> T:
        try:
            return await answer(request, context)
        except StatusError as error:
            code, details = error.code, error.details()
        except grpc.aio.AbortError:
            raise  # the status is sent already
        except Exception as error:  # noqa: BLE001  # the server must outlive any one request
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
            code, details = Code.INTERNAL, "internal error; the server's log has it"
        await context.abort(_STATUS[int(code)], details)
        raise AssertionError("abort raises")

    return handler


def _parse(kind: Any, raw: bytes) -> Any:
    """A message of `kind`. gRPC itself prescribes INTERNAL for a request that cannot be parsed."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise StatusError(Code.INTERNAL, f"the request is not a valid {name}") from error


def _with_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request


def _serialized(message: Any) -> bytes:
    out: bytes = message.SerializeToString()
    return out


def _status_message(status: int) -> bytes:
    return _serialized(messages.HealthCheckResponse(status=status))
