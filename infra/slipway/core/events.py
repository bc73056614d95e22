"""Typed progress. Layers below the console emit events and never print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class StageStarted:
    name: str
    title: str


@dataclass(frozen=True)
class StageFinished:
    name: str
    status: Literal["changed", "unchanged", "failed", "not_run"]
    seconds: float
    summary: str


@dataclass(frozen=True)
class Note:
    """One line about what is happening or will change; `host` when it concerns one host.

    stage: which stage says so, of those that run beside each other.
    """

    text: str
    host: str = ""
    stage: str = ""


@dataclass(frozen=True)
class Detail:
    """A line for the log file and for -v: a task's result, a program's output."""

    text: str
    host: str = ""
    stage: str = ""


@dataclass(frozen=True)
class ProgressStarted:
    """A download, build or training begins; `total` in `unit`, None when it cannot be known."""

    label: str
    total: int | None
    unit: Literal["B", "steps"] = "steps"
    stage: str = ""


@dataclass(frozen=True)
class ProgressAdvanced:
    label: str
    done: int
    stage: str = ""


@dataclass(frozen=True)
class ProgressFinished:
    label: str
    ok: bool
    stage: str = ""


Event = StageStarted | StageFinished | Note | Detail | ProgressStarted | ProgressAdvanced | ProgressFinished
Emit = Callable[[Event], None]


def of_stage(emit: Emit, stage: str) -> Emit:
    """A listener that tells `emit` which stage each event is of."""

    def told(event: Event) -> None:
        emit(event if isinstance(event, StageStarted | StageFinished) else replace(event, stage=stage))

    return told


def silent(_event: Event) -> None:
    """The default listener: libraries say nothing."""


@contextmanager
def progress(
    emit: Emit, label: str, total: int | None = None, unit: Literal["B", "steps"] = "steps"
) -> Iterator[Callable[[int], None]]:
    """One progress bar: yields `advance(done)`, the absolute count so far. Failure closes it as failed."""
    emit(ProgressStarted(label, total, unit))
    try:
        yield lambda done: emit(ProgressAdvanced(label, done))
    except BaseException:
        emit(ProgressFinished(label, ok=False))
        raise
    emit(ProgressFinished(label, ok=True))


@contextmanager
def counted(
    emit: Emit, label: str, total: int | None, unit: Literal["B", "steps"]
) -> Iterator[Callable[[int], None]]:
    """The same for what comes in parts: yields `came(count)`, how much more there is, or less if negative."""
    with progress(emit, label, total, unit) as advance:
        done = 0

        def came(count: int) -> None:
            nonlocal done
            done += count
            advance(done)

        yield came
