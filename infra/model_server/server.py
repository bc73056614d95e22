"""The process: load the models, open the ports, watch for versions, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from infra.model_server import log
from infra.model_server import runtime as rt
from infra.model_server.config import Monitoring, local_path, read_models, read_monitoring
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
FREE_SECONDS = 3.0


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
        else [ModelConfig(flags.model_name, local_path(flags.model_base_path).absolute())]
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
        if await _first_load(models, configs, stopping):
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
        freed = await _free(models, service)
    if freed:
        log.event("stopped")
        return
    # A thread is still in TensorFlow, which cannot be called off: leaving it to the interpreter's exit
    # would mean waiting for it.
    log.event("stopped", level="warning", not_waited_for=models.loading or "requests under way")
    sys.stderr.flush()
    os._exit(0)


async def _first_load(models: Models, configs: list[ModelConfig], stopping: asyncio.Event) -> bool:
    """Load the models before any port is opened, as upstream does (model_servers/server.cc:332).

    False when the process was told to stop meanwhile.
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


async def _free(models: Models, service: Service) -> bool:
    """Free the models and end the threads; False when a load or a run is not over in FREE_SECONDS."""
    try:
        async with asyncio.timeout(FREE_SECONDS):
            await models.close()
            await asyncio.to_thread(service.close)
    except TimeoutError:
        return False
    return True


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
