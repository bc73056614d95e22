"""What is known of each model: how it is to be served, its versions and their states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Literal

from slipway_server.codes import Code, StatusError
from slipway_server.servable import Servable
from slipway_server.version_folder import Files


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
    """One model to serve. base_path: absolute; holds one folder per version, named by its number.

    labels: versions by names that requests may use instead.
    """

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Version:
    """What is known of one version. error: why its last load failed.

    seen: its files when it failed, or when they were looked at last, and since when they are so.
    """

    state: State
    error: StatusError | None = None
    servable: Servable | None = None
    users: int = 0
    seen: Files = ()
    since: float = 0.0


@dataclass
class Model:
    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)
    folder_error: str = ""  # what is wrong with the folder, told once
    was_available: bool = False

    def serves(self, number: int) -> bool:
        version = self.versions.get(number)
        return version is not None and version.state is State.AVAILABLE

    def labels_without_version(self) -> dict[str, int]:
        """The labels whose version does not serve."""
        return {label: number for label, number in self.config.labels.items() if not self.serves(number)}


def check_labels(configs: Sequence[ModelConfig], models: Mapping[str, Model], early: bool) -> None:
    """Raise StatusError when a label names a version that does not serve (server_core.cc:549).

    early: a label that is new may name any version.
    """
    for config in configs:
        model = models.get(config.name, Model(config))
        for label, number in sorted(config.labels.items()):
            if early and model.config.labels.get(label, number) == number:
                continue
            if not model.serves(number):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {config.name}, which is not "
                    "currently available for inference",
                )


def missing(config: ModelConfig, wanted: dict[int, Path]) -> str:
    """The warning of file_system_storage_path_source.cc:239 and :314, or an empty text."""
    absent = sorted(set(config.policy.versions) - set(wanted))
    if config.policy.kind == "specific" and absent:
        return f"not in {config.base_path}: version {', '.join(map(str, absent))}"
    if not wanted and config.policy.kind != "specific":
        return f"no version in {config.base_path}: its folders must be named by numbers, such as 1"
    return ""


def reason(model: Model) -> str:
    name = model.config.name
    for number, version in sorted(model.versions.items(), reverse=True):
        if version.error is not None:
            error = version.error
            return f"{{name: {name} version: {number}}} due to error: {error.code.name}: {error.message}"
        if version.state is State.START:
            return f"{{name: {name} version: {number}}} due to error: its files are still being written"
    return f"{{name: {name}}} due to error: {model.folder_error or 'no version is wanted'}"
