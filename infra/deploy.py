"""Stage 6: the image into the cluster, by Pulumi's engine or by its rendered manifests."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from infra.clients.kubectl import Change, Kubectl, find_endpoints
from infra.core import retry
from infra.core.context import Context
from infra.core.errors import EnvironmentFault, Timeout
from infra.core.events import Note
from infra.core.schema import Settings
from infra.core.types import Cluster, Endpoints, ImageRef, Outcome
from infra.rollout import choosing, watching
from infra.rollout.applying import Applier
from infra.rollout.choosing import Earlier, Way
from infra.rollout.choosing import manifests_for_others as render
from stacks import outputs

__all__ = ["Deploy", "destroy", "env", "render"]

LISTED_SECONDS = 10.0  # how far EndpointSlices may lag behind ready pods on a busy control plane


class Deploy:
    """Make the cluster run the image, wait until every replica is ready, say where each answers."""

    title: ClassVar[str] = "Deploy the model server to Kubernetes"

    def __init__(self) -> None:
        self._watched: tuple[Kubectl, str] | None = None

    def run(self, ctx: Context, settings: Settings, cluster: Cluster, image: ImageRef) -> Outcome[Endpoints]:
        """Apply, wait at most deploy.timeout seconds, find the endpoints.

        Nothing is overwritten that something else made. A failure leaves in the cluster what was applied
        so far, and the next run goes on there. Raises DeployError, UsageError for wrong stack inputs.
        """
        declared = choosing.declare(ctx, settings, cluster, image)
        self._watched = declared.kubectl, declared.namespace
        for warning in declared.rendered.warnings:
            ctx.emit(Note(warning))
        held = declared.applier.held(declared.rendered.manifests)
        way = choosing.way(ctx, settings, held)
        choosing.refuse_leaving(ctx, declared)
        engine = choosing.engine_of(ctx, declared.kubectl) if way == "engine" else None
        choosing.refuse_strangers(declared, held, engine)
        changes = declared.applier.ensure_namespace()
        if declared.login is not None:
            changes += declared.applier.ensure_pull_secret(declared.login)
        choosing.remember(ctx, Earlier(declared.namespace, way))
        choosing.configure(ctx, declared, way)
        if engine is not None:
            engine.unlock()
            changes += engine.up()
        else:
            changes += declared.applier.apply(declared.rendered.manifests, held)
        count = len(changes)
        for change in changes:
            ctx.emit(Note(change.line()))
        kubectl, namespace = self._watched
        watching.wait_ready(ctx, kubectl, namespace, outputs.DEPLOYMENT, settings.deploy.timeout)
        found = _endpoints(kubectl, namespace, way)
        nodes = {replica.node for replica in found.replicas}
        what = f"{count} object{'s' * (count > 1)} changed" if count else "nothing changed"
        return Outcome(
            found,
            count,
            f"{len(found.replicas)} replicas on {len(nodes)} nodes behind "
            f"{found.service}.{namespace}:{found.grpc_port}, by {way}, {what}",
        )

    def plan(
        self, ctx: Context, settings: Settings, cluster: Cluster | None, image: ImageRef | None
    ) -> list[str]:
        """One line per object `run` would create, change or remove; asks the API server or Pulumi."""
        if cluster is None or image is None:
            missing = "the cluster" if cluster is None else "the image"
            return [f"deploy {outputs.DEPLOYMENT}: what changes is known once {missing} exists"]
        declared = choosing.declare(ctx, settings, cluster, image)
        applier, manifests = declared.applier, declared.rendered.manifests
        held = applier.held(manifests)
        way = choosing.way(ctx, settings, held)
        fresh = applier.namespace_is_missing()
        changes = [Change("create", "Namespace", declared.namespace)] if fresh else []
        if declared.login is not None:
            changes += applier.pull_secret_differs(declared.login)
        engine = choosing.engine_of(ctx, declared.kubectl) if way == "engine" else None
        if engine is not None and choosing.remembered(ctx) is not None:
            changes += engine.preview(choosing.configure(ctx, declared, way, preview=True))
        elif fresh or way == "engine":
            changes += [Change("create", item["kind"], item["metadata"]["name"]) for item in manifests]
        else:
            changes += applier.plan(manifests, held)
        return [change.line() for change in changes]

    def collect(self, ctx: Context) -> tuple[Path, ...]:
        """Objects, events, descriptions and pod logs of the namespace this run deployed to."""
        return watching.collect(ctx, *self._watched) if self._watched is not None else ()

    def remove(self, ctx: Context, settings: Settings) -> list[str]:
        """Part of `down`: an existing cluster is left as it was; a lab's own ends with its hosts."""
        removed = []
        kubeconfig = settings.cluster.kubeconfig
        if kubeconfig is not None and choosing.remembered(ctx) is not None:
            kubectl = choosing.kubectl_for(ctx, kubeconfig, settings.cluster.context)
            removed = _take_away(ctx, kubectl)
        return removed + choosing.forget(ctx)


def destroy(ctx: Context, settings: Settings, cluster: Cluster) -> list[str]:
    """Remove what `run` made: objects, pull secret, the namespace where it was made here; one line each."""
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, settings.cluster.context)
    return _take_away(ctx, kubectl) if choosing.remembered(ctx) is not None else []


def _endpoints(kubectl: Kubectl, namespace: str, way: Way) -> Endpoints:
    """What answers behind the Service, once it lists every replica: EndpointSlices follow the pods.

    A replica that stays out of it (somebody took its label) is smoke's to judge.
    """

    def attempt() -> Endpoints:
        found = find_endpoints(kubectl, namespace, outputs.DEPLOYMENT, outputs.SERVICE, way)
        listed.append(found.endpoints)
        if len(found.endpoints.replicas) < found.wanted:
            raise retry.Pending(f"{len(found.endpoints.replicas)} of {found.wanted} replicas are listed")
        return found.endpoints

    listed: list[Endpoints] = []
    try:
        return retry.wait_for(f"{outputs.SERVICE} lists every replica", attempt, timeout=LISTED_SECONDS)
    except Timeout:
        return listed[-1]


def _take_away(ctx: Context, kubectl: Kubectl) -> list[str]:
    earlier = choosing.remembered(ctx)
    assert earlier is not None  # both callers asked
    applier = Applier(kubectl, earlier.namespace)
    if earlier.by == "engine":
        engine = choosing.engine_of(ctx, kubectl)
        if engine is None:
            raise EnvironmentFault(
                "the deployment was made by Pulumi, and there is no `pulumi` on PATH now",
                action="install the Pulumi CLI again and repeat this",
            )
        engine.unlock()
        changes = engine.destroy() + applier.remove_rest()
    else:
        changes = applier.remove()
    choosing.forget(ctx)
    return [change.line() for change in changes]


def env(ctx: Context, settings: Settings) -> dict[str, str]:
    """Variables with which kubectl and `pulumi up` at the project's root work on this deployment."""
    kubeconfig = settings.cluster.kubeconfig or ctx.state.kubeconfig
    return {"PATH": str(ctx.state.bin), **choosing.variables(ctx, kubeconfig)}
