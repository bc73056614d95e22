"""The contract of a stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from infra.core.context import Context
from infra.core.types import Outcome


class Stage(Protocol):
    """A step of the chain.

    title: what people read while it runs. `run(ctx, ...)` names the earlier values it needs as
    parameters annotated with their types (Settings, Hosts, ...) and returns Outcome[its value]; the
    pipeline passes exactly those. It is a no-op (changed=0) when nothing is to do, leaves nothing
    half-made behind on failure that a second run trips over, and raises SlipwayError.
    `plan(ctx, ...)` takes the same values (None for one that does not exist yet), changes nothing
    and returns one line per thing `run` would change.
    """

    @property
    def title(self) -> str: ...

    @property
    def run(self) -> Callable[..., Outcome[Any]]: ...

    @property
    def plan(self) -> Callable[..., list[str]]: ...


@runtime_checkable
class HasShouldRun(Protocol):
    def should_run(self, settings: Any) -> str:
        """Empty when the stage is wanted, else the reason why not (the user brought its product)."""
        ...


@runtime_checkable
class HasProvided(Protocol):
    def provided(self, ctx: Context, settings: Any) -> Outcome[Any]:
        """The value of a stage that is not run, made from what the user brought along."""
        ...


@runtime_checkable
class HasCollect(Protocol):
    def collect(self, ctx: Context) -> tuple[Path, ...]:
        """After a failure, its own or a later stage's: save logs that tell why, return their paths."""
        ...


@runtime_checkable
class HasRemove(Protocol):
    def remove(self, ctx: Context, settings: Any) -> list[str]:
        """Take away what `run` made, also after a run that was killed; one line per thing removed."""
        ...
