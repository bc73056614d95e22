"""The process: load the models, open the ports, watch for versions, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import traceback
from pathlib import Path

from infra.model_server import log
from infra.model_server import runtime as rt
from infra.model_server.config import Monitoring, read_models, read_monitoring
from infra.model_server.flags import Flags
from infra.model_server.grpc_api import GrpcServer, Health
from infra.model_server.loading import Loader
from infra.model_server.metrics import Metrics
from infra.model_server.models import ModelConfig, Models
from infra.model_server.rest import RestServer
from infra.model_server.service import Service
from infra.model_server.status import StatusError

# Kubernetes kills 30 s after SIGTERM unless told otherwise; the rest is for freeing the models.
GRACE_SECONDS = 20.0


async def serve(flags: Flags) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises SlipwayError when the flags' files cannot be used, TensorFlow cannot be loaded or a port
    cannot be had. A model that cannot be loaded is no such error: it shows in the model's status and
    in the health service, and is tried again when its files change.
    """
    started = time.monotonic()
    configs = (
        read_models(Path(flags.model_config_file))
        if flags.model_config_file
        else [ModelConfig(flags.model_name, Path(flags.model_base_path).absolute())]
    )
    monitoring = (
        read_monitoring(Path(flags.monitoring_config_file)) if flags.monitoring_config_file else Monitoring()
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runtime = rt.load()
    log.event("runtime_loaded", tensorflow=runtime.version, seconds=round(time.monotonic() - started, 3))
    metrics = Metrics()
    models = Models(Loader(runtime, metrics))
    service = Service(models, metrics)
    health = Health()
    grpc_server = GrpcServer(service, health if flags.enable_grpc_healthcheck_service else None, flags.port)
    rest_server = RestServer(service, monitoring, flags.rest_api_port) if flags.rest_api_port else None
    watcher: asyncio.Task[None] | None = None
    try:
        with contextlib.suppress(StatusError):  # logged and kept in the status already
            await models.configure(configs)
        await grpc_server.start()
        if rest_server is not None:
            await rest_server.start()
        health.serving = models.ready
        log.event("started", serving=health.serving, seconds=round(time.monotonic() - started, 3))
        watcher = asyncio.create_task(_watch(models, health, flags.file_system_poll_wait_seconds))
        await stopping.wait()
        log.event("draining", grace_seconds=GRACE_SECONDS)
    finally:
        health.close()
        if watcher is not None:
            watcher.cancel()
        stops = [grpc_server.stop(GRACE_SECONDS)]
        if rest_server is not None:
            stops.append(rest_server.stop(GRACE_SECONDS))
        await asyncio.gather(*stops)
        await models.close()
        service.close()
    log.event("stopped")


async def _watch(models: Models, health: Health, seconds: int) -> None:
    """Look for versions every `seconds`; with 0 only a reload request changes what is served."""
    while True:
        await asyncio.sleep(seconds or 1)
        try:
            if seconds:
                await models.look()
        except Exception as error:  # noqa: BLE001  # the watch must go on whatever one look meets
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
        health.serving = health.serving or models.ready
