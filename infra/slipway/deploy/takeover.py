"""A deployment passed from one way to the other: its objects are adopted as they are, and their pods run on.

Both ways apply the same manifests from the server's side, each as a field manager of its own. So whoever
comes second becomes an owner of the same fields, and then the first lets go of them; nothing is deleted or
created. Each step can be repeated: what a killed run left is finished by the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slipway.clients.kubectl import Change, Manifest
from slipway.clients.pulumi_engine import Engine
from slipway.core.context import Context
from slipway.core.events import Note
from slipway.deploy.applying import Applier
from slipway.deploy.differences import Key, compare, without_marks
from slipway.deploy.ownership import FIELD_MANAGER, managers
from slipway.deploy.way import Way


def of_other_way(held: Mapping[Key, Manifest], way: Way) -> list[Key]:
    """The objects in which the other way still owns fields."""
    return [key for key, item in held.items() if any(_other(name, way) for name in managers(item))]


def to_engine(
    ctx: Context,
    applier: Applier,
    engine: Engine,
    manifests: Sequence[Manifest],
    before: Mapping[Key, Manifest],
) -> list[Change]:
    """Have the engine adopt what render made; returns what changed in the objects themselves."""
    engine.up()
    gone = applier.dissolve_set(manifests)
    applier.release(manifests, (FIELD_MANAGER,))
    _say(ctx, before, "engine")
    return without_marks(compare(before, applier.held(manifests))) + gone


def to_render(
    ctx: Context,
    applier: Applier,
    engine: Engine,
    manifests: Sequence[Manifest],
    before: Mapping[Key, Manifest],
) -> list[Change]:
    """Apply over what the engine made and have it forget its stack; returns what changed in the objects."""
    applier.apply(manifests, before)
    wanted = {(item["kind"], item["metadata"]["name"]) for item in manifests}
    extra = sorted({(one.kind, one.name) for one in engine.resources() if one.namespace} - wanted)
    gone = [applier.delete(kind, name) for kind, name in extra]
    engine.forget()
    for names in {_engines(item) for item in applier.held(manifests).values()} - {()}:
        applier.release(manifests, names)
    _say(ctx, before, "render")
    return without_marks(compare(before, applier.held(manifests))) + gone


def _other(name: str, way: Way) -> bool:
    return name == FIELD_MANAGER if way == "engine" else name.startswith("pulumi")


def _engines(item: Manifest) -> tuple[str, ...]:
    return tuple(name for name in managers(item) if name.startswith("pulumi"))


def _say(ctx: Context, before: Mapping[Key, Manifest], way: Way) -> None:
    count = len(of_other_way(before, way))
    other = "render" if way == "engine" else "the engine"
    ctx.emit(Note(f"{count} object{'s' * (count != 1)} of {other} taken over by {way} as they are"))
