"""The process: load the models, open the ports, watch for versions, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from slipway_server import command_line, log, memory, watching
from slipway_server import runtime as rt
from slipway_server.base_path import local_path
from slipway_server.batching import Batches
from slipway_server.batching_parameters import batching_of
from slipway_server.codes import StatusError
from slipway_server.config import Monitoring, parse_models, read_monitoring, text_of
from slipway_server.flags import Flags
from slipway_server.grpc_api import GrpcOptions, GrpcServer
from slipway_server.health import Health, ProbeServer
from slipway_server.loading import Loader
from slipway_server.metrics import Metrics
from slipway_server.model_state import ModelConfig
from slipway_server.models import Models
from slipway_server.processes import Siblings
from slipway_server.reader import Reader
from slipway_server.rest import RestServer
from slipway_server.rest_routes import Routes
from slipway_server.service import Service
from slipway_server.tls import Tls
from slipway_server.tokens import Tokens
from slipway_server.tracing import otlp
from slipway_server.tracing import wanted as tracing_wanted
from slipway_server.workers import Workers

# Kubernetes kills 30 s after SIGTERM unless told otherwise; the rest is for freeing the models.
GRACE_SECONDS = 20.0
FREE_SECONDS = 3.0
# A thread that writes a long answer gives way to the event loop so soon, and so to a probe.
SWITCH_SECONDS = 0.001


async def serve(flags: Flags, siblings: Siblings | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. siblings: other processes on the same ports.

    Raises SlipwayError when the flags' files cannot be used, TensorFlow cannot be loaded or a port
    cannot be had. A model that cannot be loaded is not such an error: it shows in the model's status and
    in the health service, and is tried again when its files change.
    """
    started = time.monotonic()
    memory.keep_little()
    sys.setswitchinterval(SWITCH_SECONDS)
    written = text_of(Path(flags.model_config_file)) if flags.model_config_file else ""
    configs = (
        parse_models(written, Path(flags.model_config_file))
        if flags.model_config_file
        else [ModelConfig(flags.model_name, local_path(flags.model_base_path).absolute())]
    )
    monitoring = (
        read_monitoring(Path(flags.monitoring_config_file)) if flags.monitoring_config_file else Monitoring()
    )
    doors = Doors(flags, monitoring)
    batching = batching_of(flags)
    tracing = otlp() if tracing_wanted(flags.enable_tracing) else None
    for flag in command_line.without_effect(flags):
        value = command_line.text(getattr(flags, flag.name))
        log.event("flag_ignored", flag=flag.name, value=value, because=flag.help)
    doors.tell()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runtime = rt.load()
    log.event("runtime_loaded", tensorflow=runtime.version, seconds=round(time.monotonic() - started, 3))
    metrics = Metrics()
    workers = Workers()
    batches = Batches(
        batching, flags.enable_per_model_batching_parameters, flags.batching_same_bits, workers, metrics
    )
    models = _models(flags, runtime, metrics, batches)
    service = Service(
        models, metrics, flags.reloadable(), workers=workers, siblings=siblings, tracing=tracing
    )
    health = await _health(siblings, stopping, metrics)
    ports: Ports | None = None
    watchers: list[asyncio.Task[None]] = []
    try:
        if await _first_load(models, configs, stopping):
            ports = Ports(doors, service, health)
            await ports.start()
            health.serving = models.ready
            log.event("started", serving=health.serving, seconds=round(time.monotonic() - started, 3))
            await asyncio.to_thread(memory.leave_files)
            watchers = _watch(doors, models, health, ports, written)
            await stopping.wait()
        log.event("draining", grace_seconds=GRACE_SECONDS)
    finally:
        health.close()
        for watcher in watchers:
            watcher.cancel()
        if ports is not None:
            await ports.stop(GRACE_SECONDS)
        freed = await _free(models, service, batches)
        if tracing is not None:
            await asyncio.to_thread(tracing.close)
    if freed:
        log.event("stopped")
        return
    # A thread is still in TensorFlow, which cannot be called off: leaving it to the interpreter's exit
    # would mean waiting for it.
    log.event("stopped", level="warning", not_waited_for=models.loading or "requests under way")
    sys.stderr.flush()
    os._exit(0)


class Doors:
    """How the ports are opened: the flags, and the files that they name, read."""

    def __init__(self, flags: Flags, monitoring: Monitoring) -> None:
        """Raises UsageError naming a file that cannot be used."""
        self.flags = flags
        self.monitoring = monitoring
        self.tokens = Tokens(Path(flags.token_file)) if flags.token_file else None
        files = [file for file in (flags.ssl_config_file, flags.rest_ssl_config_file) if file]
        tls = {file: Tls(Path(file)) for file in files}
        self.rest_tls = tls.get(flags.rest_ssl_config_file)
        self.grpc = GrpcOptions(
            port=flags.port,
            socket=flags.grpc_socket_path,
            arguments=flags.channel_arguments(),
            tls=tls.get(flags.ssl_config_file),
            tokens=self.tokens,
            reflection=flags.grpc_reflection,
            access_log=flags.access_log,
            shared=flags.processes > 1,
        )
        self.looks = [one.look for one in (*tls.values(), self.tokens) if one is not None]

    def tell(self) -> None:
        """Warn of what is readable on the way, though something else is guarded."""
        for port, tls in ((self.flags.port, self.grpc.tls), (self.flags.rest_api_port, self.rest_tls)):
            guarded = self.tokens is not None or self.flags.ssl_config_file or self.flags.rest_ssl_config_file
            if port and tls is None and guarded:
                log.event("without_tls", level="warning", port=port, tokens=self.tokens is not None)


class Ports:
    """All entrances, and the memory their requests may claim: measured once the models are loaded."""

    def __init__(self, doors: Doors, service: Service, health: Health) -> None:
        flags = doors.flags
        self._body = flags.rest_body_limit
        self._available = memory.available() // flags.processes
        # all of it may come back: a request can take another way through TensorFlow than those before it
        self._library = memory.of_files()
        at_rest = memory.resident()
        found = self._limits(at_rest)
        self.budget = memory.Budget(found.requests, at_rest)
        log.event(
            "memory",
            available=self._available,
            at_rest=at_rest + self._library,
            requests=found.requests,
            largest_message=found.message,
            largest_body=found.body,
        )
        self._reader = Reader(found.reader, found.body)
        routes = Routes(
            service, doors.monitoring, self._reader, doors.tokens, flags.rest_api_enable_cors_support
        )
        self._grpc = GrpcServer(
            service,
            health if flags.enable_grpc_healthcheck_service else None,
            doors.grpc,
            self.budget,
            found.message,
        )
        self._probes = (
            ProbeServer(health, flags.health_port, self.budget, flags.processes > 1)
            if flags.health_port
            else None
        )
        self._rest = (
            RestServer(
                routes,
                flags.rest_api_port,
                self.budget,
                found.body,
                tls=doors.rest_tls,
                tell=flags.access_log,
                shared=flags.processes > 1,
            )
            if flags.rest_api_port
            else None
        )

    async def start(self) -> None:
        """Listen. Raises EnvironmentFault when a port cannot be had."""
        await self._grpc.start()
        if self._probes is not None:
            await self._probes.start()
        if self._rest is not None:
            await self._rest.start()
            self._starting = asyncio.ensure_future(self._reader.start())  # the first large body waits for it

    async def stop(self, grace: float) -> None:
        """Refuse new requests, wait up to `grace` seconds for those under way, then end them."""
        stops = [self._grpc.stop(grace)]
        if self._rest is not None:
            stops.append(self._rest.stop(grace))
        await asyncio.gather(*stops)
        if self._probes is not None:  # the last: whoever asks meanwhile is told NOT_SERVING
            await self._probes.stop()
        self._reader.close()

    async def measure(self) -> None:
        """Learn what the process takes without requests, if there are none: models come and go.

        What the C library keeps of earlier requests is no part of that. Taken for it, it would let the next
        ones have as much again, and again.
        """
        if self._idle and self.budget.used > memory.MIB:
            await asyncio.to_thread(memory.give_back)
        if self._idle:
            self.budget.at_rest = memory.resident()
            self.budget.total = self._limits(self.budget.at_rest).requests

    def _limits(self, at_rest: int) -> memory.Limits:
        return memory.limits(self._body, self._available, at_rest + self._library)

    @property
    def _idle(self) -> bool:
        return not self.budget.claimed and not self._grpc.arrivals


def _models(flags: Flags, runtime: rt.Runtime, metrics: Metrics, batches: Batches) -> Models:
    """The models as the flags want them loaded."""
    together = batches.of if flags.enable_batching else lambda _: None
    loader = Loader(runtime, metrics, flags.tags(), flags.warm_ups(), together)
    return Models(loader, flags.allow_version_labels_for_unavailable_models)


async def _health(siblings: Siblings | None, stopping: asyncio.Event, metrics: Metrics) -> Health:
    """The health of this process, or of all of them together."""
    if siblings is None:
        return Health()
    health = Health(siblings.serving)
    health.others_serve(False)
    await siblings.join(stopping.set, health.others_serve, metrics.state)
    return health


async def _first_load(models: Models, configs: list[ModelConfig], stopping: asyncio.Event) -> bool:
    """Load the models before any port is opened, as upstream does (model_servers/server.cc:332).

    Returns False if the process was told to stop meanwhile.
    """
    loading = asyncio.ensure_future(models.configure(configs))
    told = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((loading, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if stopping.is_set():
        loading.cancel()
        return False
    with contextlib.suppress(StatusError):  # logged and kept in the status already
        loading.result()
    return True


async def _free(models: Models, service: Service, batches: Batches) -> bool:
    """Free the models and end the threads.

    Returns False if a load or a run takes longer than FREE_SECONDS.
    """
    try:
        async with asyncio.timeout(FREE_SECONDS):
            await models.close()
            await asyncio.to_thread(batches.close)
            await asyncio.to_thread(service.close)
    except TimeoutError:
        return False
    return True


def _watch(
    doors: Doors, models: Models, health: Health, ports: Ports, written: str
) -> list[asyncio.Task[None]]:
    """Begin to look at what may change while the server runs.

    written: what the file of the models said that were loaded.
    """

    async def after() -> None:
        await ports.measure()
        health.serving = models.ready

    flags = doors.flags
    looking = [
        watching.versions(models, flags.file_system_poll_wait_seconds, after),
        watching.credentials(doors.looks),
    ]
    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        file = watching.ConfigFile(Path(flags.model_config_file), models, written)
        looking.append(file.watch(flags.model_config_file_poll_wait_seconds))
    return [asyncio.create_task(look) for look in looking]
