"""What both entrances share: find the servable, run the request in the right thread, count it."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from slipway_client import messages

from slipway_server import access_log
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.config import models_of
from slipway_server.examples import of_input
from slipway_server.metrics import Metrics
from slipway_server.models import Models
from slipway_server.processes import Siblings
from slipway_server.servable import Servable
from slipway_server.session_tensors import Hold
from slipway_server.steps import Steps, Times, finish
from slipway_server.tracing import Tracing
from slipway_server.workers import Workers

T = TypeVar("T")
Api = Literal["Predict", "Classify", "Regress", "MultiInference"]

_SIGNATURE_DEF = "signature_def"


class Service:
    """The API's calls on parsed messages. Used from one event loop."""

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        reloadable: Sequence[Path] = (),
        *,
        workers: Workers | None = None,
        siblings: Siblings | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """reloadable: the folders whose models a reload request may name; without any, none is obeyed.

        siblings: the other processes on the same ports, if there are any. tracing: None for no traces.
        """
        self.tracing = tracing
        self._siblings = siblings
        self.models = models
        self._reloadable = tuple(reloadable)
        self.metrics = metrics
        self._workers = workers or Workers()

    async def answer(self, api: Api, spec: Any, size: int, steps: Callable[[Servable], Steps[T]]) -> T:
        """`infer` by the steps of the work, whose run may be done together with other requests'."""
        version = self.models.find(spec)
        servable = version.servable
        assert servable is not None
        times: Times | None = None
        if self.tracing is not None:
            times = []
            self.tracing.about(servable.name, servable.version, spec.signature_name)
        try:
            if servable.together is None:
                return await self.infer(
                    api, spec, size, lambda servable: servable.complete(steps(servable), times)
                )
            access_log.about(servable.name, servable.version)
            kind = (servable, spec.signature_name, api, size.bit_length())
            work = steps(servable)
            run = await self._anywhere((*kind, "inputs"), partial(next, work))
            results = await servable.together.run(run, partial(self.models.keep, version), times)
            return await self._anywhere((*kind, "answer"), partial(finish, work, results))
        finally:
            if self.tracing is not None and times:
                self.tracing.parts(times)

    async def _anywhere(self, kind: Hashable, work: Callable[[], T]) -> T:
        """Do work that needs no session, and so may end after its caller has left."""
        if self._workers.quick(kind):
            return self._workers.here(kind, work)
        return await self._workers.there(kind, work)

    async def infer(self, api: Api, spec: Any, size: int, work: Callable[[Servable], T]) -> T:
        """Do `work` on the servable `spec` names. size: bytes of the request, to judge what it costs.

        When the caller leaves, work that has not begun is dropped. A run under way is finished and keeps the
        servable in use until then: freeing a session during its run would end the process.

        Raises StatusError; anything else that `work` raises is a fault of the server.
        """
        version = self.models.find(spec)
        servable = version.servable
        assert servable is not None
        access_log.about(servable.name, servable.version)
        kind = (servable, spec.signature_name, api, size.bit_length())
        if self._workers.quick(kind):  # nothing else can happen meanwhile
            return self._workers.here(kind, lambda: work(servable))
        return await self._workers.there(kind, lambda: work(servable), self.models.keep(version))

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

        def steps(servable: Servable) -> Steps[Any]:
            return servable.multi_inference(request.tasks, of_input(request.input), hold)

        return await self.answer("MultiInference", spec, size, steps)

    async def metrics_text(self) -> str:
        """The metrics of all processes, added up. Raises StatusError when one does not tell its own."""
        if self._siblings is None:
            return self.metrics.text()
        return self.metrics.sum(await self._siblings.states()).text()

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
        self._workers.close()

    def _counter(self, name: str) -> int:
        counter = self.metrics.named(name)
        return counter.first() if counter is not None else 0

    def _count(self, model: str, code: Code) -> None:
        # Any name may be asked for; a counter per made-up name would grow without bound.
        if self.models.has(model):
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
