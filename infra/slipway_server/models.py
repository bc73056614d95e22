"""The models being served: version folders watched, versions loaded, warmed, swapped and retired.

A new version is loaded and warmed before the old one leaves, and an old one is freed only when its
last request has ended. A version that cannot be loaded shows in the status and changes nothing else.
One whose files are still being written is not loaded before they have come to rest.
Versions are loaded and retired in the order of upstream's core/availability_preserving_policy.cc. The states
that are reported follow core/servable_state_monitor.cc; they are kept for ever.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from slipway_server import log
from slipway_server.codes import Code, StatusError, invalid, not_found
from slipway_server.model_state import Model, ModelConfig, State, Version, check_labels, missing, reason
from slipway_server.servable import Servable
from slipway_server.version_folder import SETTLE_SECONDS, files_of, find_versions, settled

T = TypeVar("T")


Load = Callable[[str, int, Path], Servable]


class Models:
    """All models. Made and used in one event loop; only loads and frees run in threads of its own."""

    def __init__(self, load: Load, label_early: bool = False, settle_seconds: float = SETTLE_SECONDS) -> None:
        """load: makes a warmed Servable of (model name, version, folder) or raises StatusError.

        label_early: a label that is new may name a version that is not available. settle_seconds: how long a
        version's files must have been as they are before it is loaded.
        """
        self._load = load
        self._settle_seconds = settle_seconds
        self._label_early = label_early
        self._models: dict[str, Model] = {}
        self._started_with: tuple[str, ...] | None = None
        # What GetModelStatus tells: every version there ever was, of models no longer configured too.
        self._told: dict[str, dict[int, Version]] = {}
        self._changing = asyncio.Lock()
        self._closing = False
        # One load at a time: two at once would double the memory peak and starve the requests.
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._tasks: set[asyncio.Future[None]] = set()  # an event loop holds its tasks only weakly

    @contextmanager
    def use(self, spec: Any) -> Iterator[Servable]:
        """The servable a ModelSpec names, kept alive until the block ends.

        Raises StatusError NOT_FOUND when it is not available, with TensorFlow Serving's text.
        """
        version = self.find(spec)
        assert version.servable is not None
        let_go = self.keep(version)
        try:
            yield version.servable
        finally:
            let_go()

    def keep(self, version: Version) -> Callable[[], None]:
        """Keep a version loaded until what is returned is called, once and in the event loop."""
        version.users += 1

        def let_go() -> None:
            version.users -= 1
            if version.state is State.UNLOADING and not version.users:
                self._free(version)

        return let_go

    def status(self, spec: Any) -> list[tuple[int, Version]]:
        """The versions of a model, newest first, or the one asked for.

        Raises StatusError NOT_FOUND for a model or version never seen.
        """
        versions = self._told.get(spec.name, {})
        if spec.HasField("version"):
            number = spec.version.value
            if number not in versions:
                raise not_found(f"Could not find version {number} of model {spec.name}")
            return [(number, versions[number])]
        if not versions:
            raise not_found(f"Could not find any versions of model {spec.name}")
        return sorted(versions.items(), reverse=True)

    @property
    def ready(self) -> bool:
        """Whether every model of the first `configure` has a version that answers now.

        TensorFlow Serving says so once each has been available, and never takes it back. True when it started
        without any model, as there: such a server waits for a reload request.
        """
        return all(
            name in self._models
            and any(version.state is State.AVAILABLE for version in self._models[name].versions.values())
            for name in self._started_with or ()
        )

    @property
    def loading(self) -> list[str]:
        """The versions being loaded, as model/version."""
        return [
            f"{name}/{number}"
            for name, model in self._models.items()
            for number, version in model.versions.items()
            if version.state is State.LOADING
        ]

    def has(self, name: str) -> bool:
        """Whether a model of this name is configured."""
        return name in self._models

    def names(self) -> list[str]:
        return sorted(self._models)

    async def configure(self, configs: list[ModelConfig]) -> None:
        """Serve exactly these models from now on; returns when each was loaded or has failed.

        Raises StatusError UNKNOWN naming the new models that did not become available; the others
        serve all the same. Raises it FAILED_PRECONDITION, and changes nothing, for a label of a version that
        is not available; the labels of the start are taken before there are any. It is done to the end even
        when the caller is cancelled: a reload request whose client left must not leave a version half loaded.
        """
        await asyncio.shield(self._keep(self._configure(configs)))

    async def look(self) -> None:
        """Compare the version folders with what is served, and load and retire accordingly."""
        async with self._changing:
            await self._look()

    async def close(self) -> None:
        """Free every version. No request may be under way.

        Waits for a load under way, which TensorFlow cannot call off; whoever cannot wait so long cancels
        this and ends the process.
        """
        self._closing = True
        async with self._changing:
            for model in self._models.values():
                for number in list(model.versions):
                    self._retire(model, number)
            while self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.to_thread(self._threads.shutdown)  # waits for a load; the event loop must not

    async def _configure(self, configs: list[ModelConfig]) -> None:
        async with self._changing:
            wanted = {config.name: config for config in configs}
            if self._started_with is None:
                self._started_with = tuple(wanted)
            else:
                check_labels(configs, self._models, self._label_early)
            fresh = [name for name in wanted if name not in self._models]
            for name in [name for name in self._models if name not in wanted]:
                model = self._models.pop(name)
                for number in list(model.versions):
                    self._retire(model, number)
                log.event("model_removed", model=name)
            for name, config in wanted.items():
                if name in self._models:
                    self._models[name].config = config
                else:
                    self._models[name] = Model(config)
            await self._look()
            deadline = time.monotonic() + 3 * self._settle_seconds
            while self._waiting() and time.monotonic() < deadline:
                await asyncio.sleep(self._settle_seconds / 4)
                await self._look()
            for name, model in self._models.items():
                for label, number in sorted(model.labels_without_version().items()):
                    log.event(
                        "label_without_version", level="warning", model=name, label=label, version=number
                    )
            failed = [self._models[name] for name in fresh if not self._models[name].was_available]
        if failed:
            # model_servers/server_core.cc:347, WaitUntilModelsAvailable, to the last comma
            reasons = "".join(f"{{{reason(model)}}}, " for model in failed)
            raise StatusError(Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{reasons}}}")

    async def _look(self) -> None:
        """Look at every folder first: what is wanted shows as START while another version loads."""
        wanted = [(model, await self._survey(model)) for model in list(self._models.values())]
        for model, paths in wanted:
            for number in sorted(paths, reverse=True):  # the newest first: it is what most requests ask for
                if self._closing:
                    return
                version = model.versions[number]
                if version.state is State.START and await self._at_rest(model, number, paths[number]):
                    await self._bring_up(model, number, paths[number])
                    self._retire_unwanted(model, paths)

    async def _survey(self, model: Model) -> dict[int, Path]:
        """The folders of the versions wanted of a model.

        Registers new ones and retires those no longer wanted.
        """
        config = model.config
        try:
            found = await self._in_thread(find_versions, config.base_path)
        except OSError as error:
            # A folder that cannot be read says nothing about the versions in it: keep serving.
            _complain(model, "folder_unreadable", str(error))
            return {}
        wanted = config.policy.choose(found)
        _complain(model, "versions_missing", missing(config, wanted))
        told = self._told.setdefault(config.name, {}) if wanted else {}
        for number in sorted(wanted):
            if await self._due(model.versions.get(number), wanted[number]):
                model.versions[number] = told[number] = Version(State.START)
        self._retire_unwanted(model, wanted)
        return wanted

    async def _due(self, known: Version | None, path: Path) -> bool:
        """Whether a version must be loaded: it is new, was unloaded, or failed and was changed since."""
        if known is None:
            return True
        if known.state is not State.END:
            return False
        return known.error is None or await self._in_thread(files_of, path) != known.seen

    async def _at_rest(self, model: Model, number: int, path: Path) -> bool:
        """Whether a version's files are written to their end, as far as can be told from outside."""
        version = model.versions[number]
        files = await self._in_thread(files_of, path)
        if settled(files, self._settle_seconds):
            return True
        now = time.monotonic()
        if files == version.seen:
            return now - version.since >= self._settle_seconds
        if not version.seen:
            log.event("version_arriving", model=model.config.name, version=number, path=str(path))
        version.seen, version.since = files, now
        return False

    def _waiting(self) -> bool:
        """Whether a version waits for its files to come to rest."""
        return any(
            version.state is State.START
            for model in self._models.values()
            for version in model.versions.values()
        )

    def _retire_unwanted(self, model: Model, wanted: dict[int, Path]) -> None:
        """Retire unwanted versions, but keep the newest that serves until a wanted one can serve."""
        serving = [n for n, version in model.versions.items() if version.state is State.AVAILABLE]
        leaving = sorted(number for number in serving if number not in wanted)
        if wanted and not any(number in wanted for number in serving):
            leaving = leaving[:-1]
        for number in leaving:
            self._retire(model, number)
        for number in [number for number in model.versions if number not in wanted]:
            if model.versions[number].state is State.END:
                del model.versions[number]

    async def _bring_up(self, model: Model, number: int, path: Path) -> None:
        name = model.config.name
        version = model.versions[number]
        version.state = State.LOADING
        log.event("version_loading", model=name, version=number, path=str(path))
        started = time.monotonic()
        files = await self._in_thread(files_of, path)
        try:
            servable = await self._in_thread(self._load, name, number, path)
            if await self._in_thread(files_of, path) != files:
                await self._in_thread(servable.close)
                raise StatusError(
                    Code.UNAVAILABLE, "its files changed while it was loaded; it is tried again"
                )
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one version, the others serve on
            if not isinstance(error, StatusError):
                log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
                error = StatusError(Code.INTERNAL, f"cannot be loaded: {error!r}")
            version.state, version.error, version.seen = State.END, error, files
            log.event(
                "version_failed",
                level="error",
                model=name,
                version=number,
                code=error.code.name,
                error=error.message,
            )
            return
        version.servable, version.state = servable, State.AVAILABLE
        model.was_available = True
        seconds = round(time.monotonic() - started, 3)
        log.event(
            "version_available",
            model=name,
            version=number,
            warmup_requests=servable.warmed,
            seconds=seconds,
        )

    def _retire(self, model: Model, number: int) -> None:
        version = model.versions[number]
        if version.state is State.AVAILABLE:
            version.state = State.UNLOADING
            log.event("version_retiring", model=model.config.name, version=number, in_flight=version.users)
            if not version.users:
                self._free(version)

    def _free(self, version: Version) -> None:
        servable, version.servable = version.servable, None
        assert servable is not None

        async def free() -> None:
            await self._in_thread(servable.close)
            version.state = State.END
            log.event("version_unloaded", model=servable.name, version=servable.version)

        self._keep(free())

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Run `work` to its end even if nobody waits for it; failures are logged where they happen."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def find(self, spec: Any) -> Version:
        """The available version a ModelSpec names, with its servable.

        Raises StatusError NOT_FOUND when there is none, with TensorFlow Serving's text.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        versions = model.versions if model is not None else {}
        choice = spec.WhichOneof("version_choice")
        if choice is not None:
            number = spec.version.value
            if choice == "version_label":
                label = spec.version_label
                if model is None or label not in model.config.labels:
                    raise invalid(f"Unrecognized servable version label: {label}")
                number = model.config.labels[label]
            found = versions.get(number)
            if found is not None and found.state is State.AVAILABLE:
                return found
            raise not_found(f"Servable not found for request: Specific({spec.name}, {number})")
        available = [number for number, version in versions.items() if version.state is State.AVAILABLE]
        if not available:
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        return versions[max(available)]


def _complain(model: Model, event: str, error: str) -> None:
    """Log what is wrong with a model's folder when it is not what was wrong at the last look."""
    if error and error != model.folder_error:
        log.event(event, level="warning", model=model.config.name, error=error)
    model.folder_error = error
