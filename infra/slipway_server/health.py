"""grpc.health.v1.Health."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from slipway_client import messages

from slipway_server import log
from slipway_server.arrivals import Arrivals
from slipway_server.codes import Code, StatusError
from slipway_server.grpc_calls import guarded, listen, parse, serialized
from slipway_server.memory import Budget

MOST_WATCHES = 1024
SERVICE = "grpc.health.v1.Health"


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

    def __init__(self, told: Callable[[bool], None] = lambda _: None) -> None:
        """told: called when this process begins or ceases to serve."""
        self._told = told
        self._own: bool | None = None  # not known yet
        self._others = True
        self._serving = False
        self._closed = False
        self._watches = 0
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        return self._serving

    @serving.setter
    def serving(self, value: bool) -> None:
        """Of this process; it is not serving as long as another of the same ports is not."""
        if value != self._own and not self._closed:
            self._own = value
            self._told(value)
            self._settle()

    def others_serve(self, value: bool) -> None:
        """Whether all other processes serve; True if there are none."""
        self._others = value
        self._settle()

    def _settle(self) -> None:
        serving = bool(self._own) and self._others and not self._closed
        if serving != self._serving:
            self._serving = serving
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
        name = parse(messages.HealthCheckRequest, request).service
        status = self.status(name)
        if status == self.SERVICE_UNKNOWN:
            raise StatusError(Code.NOT_FOUND, f"unknown service {name[:200]}")
        return _status_message(status)

    async def watch(self, request: bytes, tell: Callable[[bytes], Awaitable[None]]) -> None:
        """Tell the status now and whenever it changes, until the server stops."""
        if self._watches >= MOST_WATCHES:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "too many watches already")
        name = parse(messages.HealthCheckRequest, request).service
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


def handlers(health: Health, arrivals: Arrivals) -> grpc.GenericRpcHandler:
    """The service's calls. Outside of every limit: a probe is answered however busy the server is."""

    async def check(_: Any, context: Any) -> bytes:
        return await health.check(await arrivals.message(context, probe=True))

    async def watch(_: Any, context: Any) -> None:
        await health.watch(await arrivals.message(context, probe=True), context.write)

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.stream_unary_rpc_method_handler(guarded(check)),
            "Watch": grpc.stream_stream_rpc_method_handler(guarded(watch)),
        },
    )


class ProbeServer:
    """A port with the health service alone, for those who cannot bring a certificate or a token.

    Kubernetes' own gRPC probes are of that kind: they speak without TLS.
    """

    def __init__(self, health: Health, port: int, budget: Budget, shared: bool = False) -> None:
        """shared: the port is several processes'."""
        self._port = port
        self._server = grpc.aio.server(
            options=(("grpc.max_receive_message_length", 4096), ("grpc.so_reuseport", int(shared)))
        )
        self._server.add_generic_rpc_handlers((handlers(health, Arrivals(budget)),))

    async def start(self) -> None:
        """Raises EnvironmentFault when the port cannot be had."""
        listen(self._server, f"[::]:{self._port}", None, f"port {self._port}", "--health_port")
        await self._server.start()
        log.event("listening", entrypoint="HEALTH", port=self._port)

    async def stop(self) -> None:
        await self._server.stop(0)


def _status_message(status: int) -> bytes:
    return serialized(messages.HealthCheckResponse(status=status))
