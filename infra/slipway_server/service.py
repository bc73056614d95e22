"""What both entrances share: find the servable, run the request in the right thread, count it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TypeVar

from slipway_client import messages

from slipway_server import access_log
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.config import models_of
from slipway_server.examples import of_input
from slipway_server.metrics import Metrics
from slipway_server.models import Models
from slipway_server.servable import Servable
from slipway_server.session_tensors import Hold

T = TypeVar("T")
Api = Literal["Predict", "Classify", "Regress", "MultiInference"]

# A run shorter than this is done in the event loop itself: handing it to a thread and back costs
# about 0.1 ms, a seventh of what a small model's whole request takes.
QUICK_SECONDS = 0.002
_SIGNATURE_DEF = "signature_def"


class Service:
    """The API's calls on parsed messages. Used from one event loop."""

    def __init__(self, models: Models, metrics: Metrics, reloadable: Sequence[Path] = ()) -> None:
        """reloadable: the folders whose models a reload request may name; without any, none is obeyed."""
        self.models = models
        self._reloadable = tuple(reloadable)
        self.metrics = metrics
        self._threads = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1), thread_name_prefix="run")
        # (servable, signature, API, power of two of the request's size) -> seconds, a moving average
        self._seconds: dict[tuple[Servable, str, str, int], float] = {}

    async def infer(
        self,
        api: Api,
        spec: Any,
        size: int,
        work: Callable[[Servable], T],
    ) -> T:
        """Do `work` on the servable `spec` names. size: bytes of the request, to judge what it costs.

        When the caller leaves, work that has not begun is dropped. A run under way is finished and keeps the
        servable in use until then: freeing a session during its run would end the process.

        Raises StatusError; anything else that `work` raises is a fault of the server.
        """
        with ExitStack() as use:
            servable = use.enter_context(self.models.use(spec))
            access_log.about(servable.name, servable.version)
            key = (servable, spec.signature_name, api, size.bit_length())
            known = self._seconds.get(key)
            started = time.perf_counter()
            if known is not None and known < QUICK_SECONDS:
                result = work(servable)
            else:
                run = self._threads.submit(work, servable)
                loop, release = asyncio.get_running_loop(), use.pop_all().close
                run.add_done_callback(lambda _: loop.call_soon_threadsafe(release))
                result = await asyncio.wrap_future(run)
            seconds = time.perf_counter() - started
            if known is None and len(self._seconds) > 4096:
                self._seconds.clear()  # names of signatures come from clients; keep what they cost bounded
            if known is not None:
                # Believe a slow run at once, and fast ones soon: the first pays for TensorFlow's set-up.
                seconds = known + (seconds - known) * (0.2 if seconds > known else 0.5)
            self._seconds[key] = seconds
            return result

    async def counted(
        self, api: str, entrypoint: Literal["GRPC", "REST"], model: str, answer: Awaitable[T]
    ) -> T:
        """Await `answer`, counting it under `model` with its status and time."""
        started = time.perf_counter()
        access_log.about(model)
        try:
            result = await answer
        except StatusError as error:
            self._count(model, error.code)
            raise
        self._count(model, Code.OK)
        self.metrics.request_latency.observe((time.perf_counter() - started) * 1e6, model, api, entrypoint)
        return result

    async def multi_inference(self, request: Any, size: int, hold: Hold) -> Any:
        """Answer a MultiInferenceRequest (multi_inference_helper.cc). size: of the request, in bytes.

        The first task says which version; like upstream, this counts no request.
        """
        spec = request.tasks[0].model_spec if request.tasks else messages.ModelSpec()
        access_log.about(spec.name)

        def work(servable: Servable) -> Any:
            return servable.multi_inference(request.tasks, of_input(request.input), hold)

        return await self.infer("MultiInference", spec, size, work)

    def metadata(self, request: Any) -> Any:
        """Answer a GetModelMetadataRequest (get_model_metadata_impl.cc)."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {name} is not supported")
        access_log.about(request.model_spec.name)
        with self.models.use(request.model_spec) as servable:
            access_log.about(servable.name, servable.version)
            response = messages.GetModelMetadataResponse()
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            response.metadata[_SIGNATURE_DEF].Pack(servable.signature_map())
            return response

    def model_status(self, request: Any) -> Any:
        """Answer a GetModelStatusRequest (get_model_status_impl.cc)."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        access_log.about(request.model_spec.name)
        response = messages.GetModelStatusResponse()
        for number, version in self.models.status(request.model_spec):
            line = response.model_version_status.add(version=number, state=int(version.state))
            line.status.SetInParent()
            if version.error is not None:
                line.status.error_code = int(version.error.code)
                line.status.error_message = version.error.message
        return response

    async def reload(self, request: Any) -> Any:
        """Answer a ReloadConfigRequest (model_service_impl.cc): serve what its config says.

        Raises StatusError PERMISSION_DENIED when the server was not told to obey such requests, or for a path
        outside the folders it was told; nothing of the path is looked at then.
        """
        if not self._reloadable:
            raise StatusError(
                Code.PERMISSION_DENIED,
                "this server's models are those of its start; --reload_folders=FOLDER[,FOLDER] allows "
                "HandleReloadConfigRequest for the models in these folders",
            )
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                "currently supported"
            )
        before = {name: self._counter(name) for name in request.metric_names}
        configs = models_of(request.config, self.models.names())
        for config in configs:
            if not _inside(config.base_path, self._reloadable):
                raise StatusError(
                    Code.PERMISSION_DENIED,
                    f"the base path of model {config.name} is in none of the folders of --reload_folders",
                )
        await self.models.configure(configs)
        response = messages.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=self._counter(name) - value)
        return response

    def close(self) -> None:
        """Give the threads back; runs under way are waited for."""
        self._threads.shutdown()

    def _counter(self, name: str) -> int:
        counter = self.metrics.named(name)
        return counter.first() if counter is not None else 0

    def _count(self, model: str, code: Code) -> None:
        # Any name may be asked for; a counter per made-up name would grow without bound.
        if model in self.models.names():
            self.metrics.requests.add(model, code.name)


def _inside(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a path is one of the folders or in one of them, by its words and where symlinks lead.

    By its words first: what lies outside is not even looked at.
    """
    if "\0" in str(path):
        return False  # no file system has such a path, and none must be asked for it
    return any(
        all(Path(form(path)).is_relative_to(form(folder)) for form in (os.path.normpath, os.path.realpath))
        for folder in folders
    )
