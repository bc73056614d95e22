"""The models being served: version folders watched, versions loaded, warmed, swapped and retired.

A new version is loaded and warmed before the old one leaves, and an old one is freed only when its
last request has ended. A version that cannot be loaded shows in the status and changes nothing else.
Versions are loaded and retired in the order of upstream's core/availability_preserving_policy.cc. The states
that are reported follow core/servable_state_monitor.cc; they are kept for ever.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from slipway_server import log
from slipway_server.codes import Code, StatusError, invalid, not_found
from slipway_server.servable import Servable

T = TypeVar("T")
# What absl::SimpleAtoi takes for a number: file_system_storage_path_source.cc:87, ParseVersionNumber
_VERSION = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*")


class State(IntEnum):
    """tensorflow.serving.ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Policy:
    """Which of a model's version folders are served."""

    kind: Literal["latest", "all", "specific"] = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, found: dict[int, Path]) -> dict[int, Path]:
        """The versions wanted among those found."""
        if self.kind == "all":
            return found
        if self.kind == "specific":
            return {version: path for version, path in found.items() if version in self.versions}
        newest = sorted(found, reverse=True)[: max(self.count, 1)]
        return {version: found[version] for version in newest}


@dataclass(frozen=True)
class ModelConfig:
    """One model to serve. base_path: absolute; holds one folder per version, named by its number."""

    name: str
    base_path: Path
    policy: Policy = Policy()


@dataclass
class Version:
    """What is known of one version. error: why its last load failed."""

    state: State
    error: StatusError | None = None
    servable: Servable | None = None
    users: int = 0
    seen: tuple[tuple[str, int, int], ...] = ()  # its files when it failed; tried again once they differ


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)
    folder_error: str = ""  # what is wrong with the folder, told once
    was_available: bool = False


Load = Callable[[str, int, Path], Servable]


class Models:
    """All models. Made and used in one event loop; only loads and frees run in threads of its own."""

    def __init__(self, load: Load) -> None:
        """load: makes a warmed Servable of (model name, version, folder) or raises StatusError."""
        self._load = load
        self._models: dict[str, _Model] = {}
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
        version = self._find(spec)
        version.users += 1
        try:
            assert version.servable is not None
            yield version.servable
        finally:
            version.users -= 1
            if version.state is State.UNLOADING and not version.users:
                self._free(version)

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

    def names(self) -> list[str]:
        return sorted(self._models)

    async def configure(self, configs: list[ModelConfig]) -> None:
        """Serve exactly these models from now on; returns when each was loaded or has failed.

        Raises StatusError UNKNOWN naming the new models that did not become available; the others
        serve all the same. It is done to the end even when the caller is cancelled: a reload request
        whose client left must not leave a version half loaded.
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
                    self._models[name] = _Model(config)
            await self._look()
            failed = [self._models[name] for name in fresh if not self._models[name].was_available]
        if failed:
            # model_servers/server_core.cc:347, WaitUntilModelsAvailable, to the last comma
            reasons = "".join(f"{{{_reason(model)}}}, " for model in failed)
            raise StatusError(Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{reasons}}}")

    async def _look(self) -> None:
        """Look at every folder first: what is wanted shows as START while another version loads."""
        wanted = [(model, await self._survey(model)) for model in list(self._models.values())]
        for model, paths in wanted:
            for number in sorted(paths, reverse=True):  # the newest first: it is what most requests ask for
                if self._closing:
                    return
                if model.versions[number].state is State.START:
                    await self._bring_up(model, number, paths[number])
                    self._retire_unwanted(model, paths)

    async def _survey(self, model: _Model) -> dict[int, Path]:
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
        _complain(model, "versions_missing", _missing(config, wanted))
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
        return known.error is None or await self._in_thread(_files, path) != known.seen

    def _retire_unwanted(self, model: _Model, wanted: dict[int, Path]) -> None:
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

    async def _bring_up(self, model: _Model, number: int, path: Path) -> None:
        name = model.config.name
        version = model.versions[number]
        version.state = State.LOADING
        log.event("version_loading", model=name, version=number, path=str(path))
        started = time.monotonic()
        files = await self._in_thread(_files, path)
        try:
            servable = await self._in_thread(self._load, name, number, path)
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

    def _retire(self, model: _Model, number: int) -> None:
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

    def _find(self, spec: Any) -> Version:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        versions = model.versions if model is not None else {}
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        if choice == "version":
            found = versions.get(spec.version.value)
            if found is not None and found.state is State.AVAILABLE:
                return found
            raise not_found(f"Servable not found for request: Specific({spec.name}, {spec.version.value})")
        available = [number for number, version in versions.items() if version.state is State.AVAILABLE]
        if not available:
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        return versions[max(available)]


def _complain(model: _Model, event: str, error: str) -> None:
    """Log what is wrong with a model's folder when it is not what was wrong at the last look."""
    if error and error != model.folder_error:
        log.event(event, level="warning", model=model.config.name, error=error)
    model.folder_error = error


def _missing(config: ModelConfig, wanted: dict[int, Path]) -> str:
    """The warning of file_system_storage_path_source.cc:239 and :314, or an empty text."""
    absent = sorted(set(config.policy.versions) - set(wanted))
    if config.policy.kind == "specific" and absent:
        return f"not in {config.base_path}: version {', '.join(map(str, absent))}"
    if not wanted and config.policy.kind != "specific":
        return f"no version in {config.base_path}: its folders must be named by numbers, such as 1"
    return ""


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders in a model's folder, by number. Raises OSError when it cannot be read.

    Of two with the same number (1 and 001) the last by name counts, as in IndexChildrenByVersion.
    """
    found: dict[int, Path] = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if _VERSION.fullmatch(entry.name) and entry.is_dir() and -(2**63) <= int(entry.name) < 2**63:
                found[int(entry.name)] = Path(entry.path)
    return found


def _files(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file below. A repaired version has other ones.

    Files that vanish meanwhile, as when a version is being copied here, are left out.
    """
    out = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            try:
                facts = file.stat()
            except OSError:
                continue
            out.append((str(file), facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(out))


def _reason(model: _Model) -> str:
    name = model.config.name
    for number, version in sorted(model.versions.items(), reverse=True):
        if version.error is not None:
            error = version.error
            return f"{{name: {name} version: {number}}} due to error: {error.code.name}: {error.message}"
    return f"{{name: {name}}} due to error: {model.folder_error or 'no version is wanted'}"
