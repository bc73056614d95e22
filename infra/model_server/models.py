"""The models being served: version folders watched, versions loaded, warmed, swapped and retired.

A new version is loaded and warmed before the old one leaves, and an old one is freed only when its
last request has ended. A version that cannot be loaded shows in the status and changes nothing else.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from infra.model_server import log
from infra.model_server.servable import Servable
from infra.model_server.status import Code, StatusError, invalid, not_found


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
    folder_error: str = ""
    was_available: bool = False


Load = Callable[[str, int, Path], Servable]


class Models:
    """All models. Made and used in one event loop; only loads and frees run in threads of its own."""

    def __init__(self, load: Load) -> None:
        """load: makes a warmed Servable of (model name, version, folder) or raises StatusError."""
        self._load = load
        self._models: dict[str, _Model] = {}
        self._changing = asyncio.Lock()
        # One load at a time: two at once would double the memory peak and starve the requests.
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._freeing: set[asyncio.Future[None]] = set()

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
        model = self._models.get(spec.name)
        versions = model.versions if model is not None else {}
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
        """Whether every configured model has been available: what TensorFlow Serving waits for."""
        return bool(self._models) and all(model.was_available for model in self._models.values())

    def names(self) -> list[str]:
        return sorted(self._models)

    async def configure(self, configs: list[ModelConfig]) -> None:
        """Serve exactly these models from now on; returns when each was loaded or has failed.

        Raises StatusError UNKNOWN naming the new models that did not become available; the others
        serve all the same.
        """
        async with self._changing:
            wanted = {config.name: config for config in configs}
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
            reasons = ", ".join(f"{{{_reason(model)}}}" for model in failed)
            raise StatusError(Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{reasons}}}")

    async def look(self) -> None:
        """Compare the version folders with what is served, and load and retire accordingly."""
        async with self._changing:
            await self._look()

    async def close(self) -> None:
        """Free every version. No request may be under way."""
        async with self._changing:
            for model in self._models.values():
                for number in list(model.versions):
                    self._retire(model, number)
            while self._freeing:
                await asyncio.gather(*self._freeing)
            self._threads.shutdown()

    async def _look(self) -> None:
        for model in list(self._models.values()):
            await self._look_at(model)

    async def _look_at(self, model: _Model) -> None:
        config = model.config
        try:
            found = await asyncio.to_thread(find_versions, config.base_path)
        except OSError as error:
            # A folder that cannot be read says nothing about the versions in it: keep serving.
            if str(error) != model.folder_error:
                model.folder_error = str(error)
                log.event("folder_unreadable", level="warning", model=config.name, error=str(error))
            return
        model.folder_error = ""
        wanted = config.policy.choose(found)
        for number in sorted(wanted):
            await self._bring_up(model, number, wanted[number])
        available = [n for n in wanted if n in model.versions and model.versions[n].state is State.AVAILABLE]
        if available or not wanted:  # never leave a model without a version while a wanted one is missing
            for number in [number for number in model.versions if number not in wanted]:
                self._retire(model, number)

    async def _bring_up(self, model: _Model, number: int, path: Path) -> None:
        known = model.versions.get(number)
        files: tuple[tuple[str, int, int], ...] = ()
        if known is not None:
            if known.state is not State.END:
                return
            if known.error is not None:
                files = await asyncio.to_thread(_files, path)
                if files == known.seen:
                    return
        name = model.config.name
        version = model.versions[number] = Version(State.LOADING)
        log.event("version_loading", model=name, version=number, path=str(path))
        started = time.monotonic()
        files = files or await asyncio.to_thread(_files, path)
        try:
            servable = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._load, name, number, path
            )
        except StatusError as error:
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
        if version.state is State.END and version.servable is None and version.error is not None:
            del model.versions[number]  # a failed one that nobody wants any more
        elif version.state is State.AVAILABLE:
            version.state = State.UNLOADING
            log.event("version_retiring", model=model.config.name, version=number, in_flight=version.users)
            if not version.users:
                self._free(version)

    def _free(self, version: Version) -> None:
        servable, version.servable = version.servable, None
        assert servable is not None

        async def free() -> None:
            await asyncio.get_running_loop().run_in_executor(self._threads, servable.close)
            version.state = State.END
            log.event("version_unloaded", model=servable.name, version=servable.version)

        task = asyncio.ensure_future(free())
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

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


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders in a model's folder, by number. Raises OSError when it cannot be read."""
    found: dict[int, Path] = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.isascii() and entry.name.isdigit() and entry.is_dir() and int(entry.name) < 2**63:
                found[int(entry.name)] = Path(entry.path)
    return found


def _files(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file below: differs when anybody repaired the version."""
    out = []
    for file in sorted(path.rglob("*")):
        try:
            facts = file.stat()
        except OSError:
            continue
        out.append((str(file), facts.st_size, facts.st_mtime_ns))
    return tuple(out)


def _reason(model: _Model) -> str:
    name = model.config.name
    for number, version in sorted(model.versions.items(), reverse=True):
        if version.error is not None:
            error = version.error
            return f"{{name: {name} version: {number}}} due to error: {error.code.name}: {error.message}"
    return f"{{name: {name}}} due to error: {model.folder_error or f'no version in {model.config.base_path}'}"
