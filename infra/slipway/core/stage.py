"""The contract of a stage."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from slipway.core.context import Context
from slipway.core.evidence import Reading
from slipway.core.types import SHARED, Hosts, Outcome


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


def name_of(stage: Stage) -> str:
    """A stage is called as its package: slipway.hosts.stage -> hosts."""
    return type(stage).__module__.split(".")[-2]


def needs(stage: Stage, method: str = "run") -> dict[str, tuple[type, bool]]:
    """Parameter -> (type of the earlier value, whether the stage can do without it)."""
    hints = typing.get_type_hints(getattr(type(stage), method))
    out: dict[str, tuple[type, bool]] = {}
    for name, kind in hints.items():
        if name in ("self", "ctx", "return"):
            continue
        union = typing.get_origin(kind) in (typing.Union, types.UnionType)
        options = typing.get_args(kind) if union else (kind,)
        wanted = [option for option in options if option is not type(None)]
        out[name] = (wanted[0], len(wanted) < len(options))
    return out


def produces(stage: Stage) -> type:
    """The type of the value a stage hands on: T of its Outcome[T]."""
    kind: type = typing.get_args(typing.get_type_hints(type(stage).run)["return"])[0]
    return kind


def is_shared(stage: Stage) -> bool:
    """Whether a stage is run once, however many models there are."""
    return produces(stage) in SHARED


def is_alone(stage: Stage) -> bool:
    """Whether nothing may run beside a stage, as its class says by `alone`: it measures."""
    return bool(getattr(stage, "alone", False))


@runtime_checkable
class HasShouldRun(Protocol):
    def should_run(self, settings: Any) -> str:
        """Empty when the stage is wanted, else the reason why not (the user brought its product)."""
        ...


@runtime_checkable
class HasReady(Protocol):
    def ready(self, settings: Any) -> None:
        """Raise EnvironmentFault if this machine lacks what `run` needs; called before any stage runs."""
        ...


@runtime_checkable
class HasPrepare(Protocol):
    def prepare(self, ctx: Context, settings: Any) -> None:
        """Get what takes long and needs no earlier value, while the stage waits for one.

        Called where less runs at once than may, and never beside `run`, which finds it there or gets it
        itself: what this raises is told by `run`.
        """
        ...


@runtime_checkable
class HasBake(Protocol):
    def bake_key(self, ctx: Context, settings: Any) -> str:
        """What decides what `bake` puts into a root: the same key, the same root.

        What that is made from may be fetched or built for it.
        """
        ...

    def bake(self, ctx: Context, settings: Any, hosts: Hosts) -> None:
        """Put into these hosts what every host of such settings has, whoever it is. Their disk is kept."""
        ...


@runtime_checkable
class HasProvided(Protocol):
    def provided(self, ctx: Context, settings: Any) -> Outcome[Any]:
        """The value of a stage that is not run, made from what the user brought along."""
        ...


@runtime_checkable
class HasCollect(Protocol):
    def collect(self, ctx: Context) -> Sequence[Reading]:
        """After a failure, its own or a later stage's: what can be read that tells why."""
        ...


@runtime_checkable
class HasRemove(Protocol):
    def remove(self, ctx: Context, settings: Any) -> list[str]:
        """Take away what `run` made, also after a run that was killed; one line per thing removed."""
        ...


@runtime_checkable
class HasLeft(Protocol):
    def left(self, ctx: Context, settings: Any) -> Sequence[tuple[str, Stage]]:
        """What `run` made for models that the settings do not name any more.

        (model, a stage that takes away what is its own): it is run like any other, for that model.
        """
        ...
