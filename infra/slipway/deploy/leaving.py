"""What was deployed for a model that goes: taken away, or passed on where another name has it now.

Nothing else is touched: an engine destroys its own stack, an ApplySet names what render made. The namespace
and the login in it are the last model's there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from slipway_stacks.outputs import Names

from slipway.clients.kubectl import Kubectl, Manifest
from slipway.clients.pulumi_engine import Engine
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault
from slipway.core.events import Note
from slipway.core.schema import Settings
from slipway.core.types import Cluster, Outcome
from slipway.deploy import deployed, stack_config
from slipway.deploy.applying import Applier
from slipway.deploy.deployed import Earlier
from slipway.deploy.engine import engine_of, stack_of


class TakeAway:
    """Remove a deployment that the settings do not name any more, and what was kept of its model."""

    title: ClassVar[str] = "Take away what the settings no longer name"

    def run(self, ctx: Context, settings: Settings, cluster: Cluster) -> Outcome[None]:
        """Raises DeployError or EnvironmentFault; a second run goes on."""
        earlier = deployed.remembered(ctx)
        lines = destroy(ctx, settings, cluster)
        for line in lines:
            ctx.emit(Note(line))
        count = len(lines)
        what = f"{earlier.deployment} in namespace {earlier.namespace}" if earlier else "nothing"
        return Outcome(None, count, f"the settings no longer name {what}: {count} objects removed")

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """One line, unless a model of the settings is to have it as it is."""
        earlier = deployed.remembered(ctx)
        if earlier is None or any(_names(one, earlier) for _, one in settings.each()):
            return []
        return [
            f"take away {earlier.deployment} and what belongs to it in namespace {earlier.namespace}: "
            "the settings no longer name it"
        ]


def gone(ctx: Context, settings: Settings) -> list[Context]:
    """The places of deployments that the settings do not name any more: with `models` now, or without."""
    return [place for place in deployed.places(ctx) if not _is_named(place, settings)]


def before(ctx: Context, settings: Settings, namespace: str, names: Names) -> Context | None:
    """Where this same Deployment was made under a name that the settings do not have any more.

    So it is with the one deployment of a lab that now has `models`, one of them of that name. None where
    there is no such place, or where there is a deployment under the present name already.
    """
    if deployed.remembered(ctx) is not None:
        return None
    for place in gone(ctx, settings):
        earlier = deployed.remembered(place)
        if earlier and (earlier.namespace, earlier.deployment) == (namespace, names.deployment):
            return place
    return None


def pass_on(
    ctx: Context,
    settings: Settings,
    place: Context,
    kubectl: Kubectl,
    manifests: Sequence[Manifest],
) -> None:
    """Have a deployment under the present name as it is: no pod restarts.

    The engine's stack is renamed; of render's set only the memory is dropped, for the next apply makes its
    own, and what is not among the manifests is removed. Each step can be repeated.
    """
    earlier = deployed.remembered(place)
    assert earlier is not None  # `before` asked
    if earlier.by == "engine":
        engine = _engine(place, settings, kubectl, earlier)
        engine.unlock()
        engine.rename(stack_of(ctx))
    else:
        Applier(kubectl, earlier.namespace, deployed.applyset(place)).dissolve_set(manifests)
    deployed.remember(ctx, earlier)
    stack_config.pass_on(place, ctx)
    deployed.forget(place)
    place.state.clear_model()
    ctx.emit(Note(f"{earlier.deployment} is taken over as it is: the settings name it otherwise now"))


def destroy(ctx: Context, settings: Settings, cluster: Cluster) -> list[str]:
    """Remove what `Deploy.run` made: objects, pull secret, the namespace where it was made here.

    One line each. Where another model is deployed to the namespace, that and the pull secret stay.
    """
    if deployed.remembered(ctx) is None:
        return []
    lines = take_away(ctx, settings, Kubectl.of(cluster))
    if not _is_named(ctx, settings):
        ctx.state.clear_model()
    return lines


def take_away(ctx: Context, settings: Settings, kubectl: Kubectl) -> list[str]:
    """`destroy` with a client at hand, of what is remembered."""
    earlier = deployed.remembered(ctx)
    assert earlier is not None  # all callers asked
    applier = Applier(kubectl, earlier.namespace, deployed.applyset(ctx))
    others = [deployed.remembered(place) for place in deployed.places(ctx) if place.state != ctx.state]
    alone = all(other is None or other.namespace != earlier.namespace for other in others)
    if earlier.by == "engine":
        engine = _engine(ctx, settings, kubectl, earlier)
        engine.unlock()
        changes = engine.destroy() + applier.remove_rest(alone=alone)
    else:
        changes = applier.remove(alone=alone)
    deployed.forget(ctx)
    return [change.line() for change in changes]


def _is_named(place: Context, settings: Settings) -> bool:
    return place.state.model in (settings.models or ("",))


def _names(settings: Settings, earlier: Earlier) -> bool:
    """Whether these settings of a model are of that Deployment; a namespace that is not set may be any."""
    same = Names(settings.model.name).deployment == earlier.deployment
    return same and settings.deploy.namespace in (None, earlier.namespace)


def _engine(ctx: Context, settings: Settings, kubectl: Kubectl, earlier: Earlier) -> Engine:
    """The engine that made it, with the state where it was then: the settings may not say any more."""
    there = settings.model_copy(
        update={"deploy": settings.deploy.model_copy(update={"backend": earlier.backend})}
    )
    engine = engine_of(ctx, there if earlier.backend else settings, kubectl)
    if engine is None:
        raise EnvironmentFault(
            "the deployment was made by Pulumi's engine, which is not in the state folder any more",
            action="`slipway deploy` brings it there; then repeat this",
        )
    return engine
