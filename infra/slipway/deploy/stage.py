"""The image into the cluster, by Pulumi's engine or by its rendered manifests."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from slipway_stacks import outputs

from slipway import artifacts
from slipway.artifacts.pulumi_cli import at_hand
from slipway.clients.endpoints import find_endpoints, listed
from slipway.clients.kubectl import Change, Kubectl, Manifest
from slipway.clients.pulumi_engine import Engine
from slipway.core import retry
from slipway.core.context import Context
from slipway.core.errors import Timeout
from slipway.core.events import Note
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.stage import Stage
from slipway.core.types import Cluster, Endpoints, ExportedModel, ImageRef, Outcome
from slipway.deploy import deployed, evidence, leaving, takeover, watching
from slipway.deploy.apis import refuse_unknown, without_effect
from slipway.deploy.declaration import Declared, configure, declare
from slipway.deploy.deployed import Earlier
from slipway.deploy.differences import Key
from slipway.deploy.engine import engine_of, variables
from slipway.deploy.ownership import refuse_strangers
from slipway.deploy.way import Way, choose_way

LISTED_SECONDS = 10.0  # how far EndpointSlices may lag behind ready pods on a busy control plane


class Deploy:
    """Make the cluster run the image, wait until every replica is ready, say where each answers."""

    title: ClassVar[str] = "Deploy the model server"

    def prepare(self, ctx: Context, settings: Settings) -> None:
        """Have the engine built, where it is not at hand and wanted."""
        if settings.deploy.by != "render" and not at_hand(ctx, settings):
            artifacts.pulumi(ctx, settings)

    def run(
        self,
        ctx: Context,
        settings: Settings,
        cluster: Cluster,
        image: ImageRef,
        model: ExportedModel | None = None,
    ) -> Outcome[Endpoints]:
        """Apply, wait at most deploy.timeout seconds, find the endpoints.

        Nothing is overwritten that something else made. A failure leaves in the cluster what was applied
        so far, and the next run goes on there. Raises DeployError, UsageError for wrong stack inputs and for
        a model that the replicas' memory cannot hold.
        """
        declared = declare(ctx, settings, cluster, image, model)
        refuse_unknown(declared.kubectl, declared.rendered.manifests)
        unheeded = without_effect(declared.kubectl, declared.rendered.manifests)
        for warning in (*declared.rendered.warnings, *unheeded):
            ctx.emit(Note(warning))
        held = declared.applier.held(declared.rendered.manifests)
        way = choose_way(ctx, settings)
        deployed.refuse_leaving(ctx, declared.kubectl, declared.namespace)
        engine = engine_of(ctx, settings, declared.kubectl)
        if engine is not None:
            engine.unlock()
        names = outputs.Names(image.model_name)
        if (place := leaving.before(ctx, settings, declared.namespace, names)) is not None:
            leaving.pass_on(ctx, settings, place, declared.kubectl, declared.rendered.manifests)
        refuse_strangers(declared.namespace, held, engine)
        changes = declared.applier.ensure_namespace()
        if declared.login is not None:
            changes += declared.applier.ensure_pull_secret(declared.login)
        deployed.remember(ctx, Earlier(declared.namespace, way, names.deployment, settings.deploy.backend))
        configure(ctx, declared, way)
        changes += _apply(ctx, declared, engine, way, held)
        count = len(changes)
        for change in changes:
            ctx.emit(Note(change.line()))
        kubectl, namespace = declared.kubectl, declared.namespace
        watching.wait_ready(ctx, kubectl, namespace, names, settings.deploy.timeout)
        found = _endpoints(kubectl, namespace, names, way)
        nodes = {replica.node for replica in found.replicas}
        what = f"{count} object{'s' * (count > 1)} changed" if count else "nothing changed"
        return Outcome(
            found,
            count,
            f"{len(found.replicas)} replicas on {len(nodes)} nodes behind "
            f"{found.service}.{namespace}:{found.grpc_port}, by {way}, {what}",
        )

    def plan(
        self,
        ctx: Context,
        settings: Settings,
        cluster: Cluster | None,
        image: ImageRef | None,
        model: ExportedModel | None = None,
    ) -> list[str]:
        """One line per object `run` would create, change or remove; asks the API server or Pulumi."""
        if cluster is None or image is None:
            missing = "the cluster" if cluster is None else "the image"
            return [f"deploy the model server: what changes is known once {missing} exists"]
        declared = declare(ctx, settings, cluster, image, model)
        refuse_unknown(declared.kubectl, declared.rendered.manifests)
        names = outputs.Names(image.model_name)
        ctx = leaving.before(ctx, settings, declared.namespace, names) or ctx  # what is there is asked
        applier, manifests = declared.applier, declared.rendered.manifests
        applier.applyset = deployed.applyset(ctx)
        held = applier.held(manifests)
        fresh = applier.namespace_is_missing()
        changes = [Change("create", "Namespace", declared.namespace)] if fresh else []
        if declared.login is not None:
            changes += applier.pull_secret_differs(declared.login)
        way = settings.deploy.by
        engine = None
        if way != "render" and at_hand(ctx, settings):
            choose_way(ctx, settings)
            engine = engine_of(ctx, settings, declared.kubectl)
        earlier = deployed.remembered(ctx)
        if engine is not None and earlier is not None and earlier.by == "engine":
            changes += engine.preview(configure(ctx, declared, "engine", preview=True))
        elif fresh:
            changes += [Change("create", item["kind"], item["metadata"]["name"]) for item in manifests]
        else:
            changes += applier.plan(manifests, held)
        return [change.line() for change in changes]

    def left(self, ctx: Context, settings: Settings) -> list[tuple[str, Stage]]:
        """Each deployment of a model that the settings do not name any more, to be taken away."""
        return [(place.state.model, leaving.TakeAway()) for place in leaving.gone(ctx, settings)]

    def collect(self, ctx: Context) -> Sequence[Reading]:
        """Objects, events, descriptions and pod logs of the namespace that was deployed to."""
        cluster, earlier = ctx.state.kept(Cluster), deployed.remembered(ctx)
        if cluster is None or earlier is None:
            return ()
        return evidence.readings(Kubectl.of(cluster), earlier.namespace)

    def remove(self, ctx: Context, settings: Settings) -> list[str]:
        """Part of `down`: an existing cluster is left as it was; a lab's own ends with its hosts."""
        removed = []
        kubeconfig = settings.cluster.kubeconfig
        if kubeconfig is not None and deployed.remembered(ctx) is not None:
            kubectl = deployed.kubectl_for(ctx, kubeconfig, settings.cluster.context)
            removed = leaving.take_away(ctx, settings, kubectl)
        return removed + deployed.forget(ctx)


def _apply(
    ctx: Context, declared: Declared, engine: Engine | None, way: Way, held: Mapping[Key, Manifest]
) -> list[Change]:
    """Make the cluster hold the manifests, by the way chosen; what the other way made is taken over."""
    applier, manifests = declared.applier, declared.rendered.manifests
    other = takeover.of_other_way(held, way)
    if way == "engine":
        assert engine is not None  # choose_way put its CLI there
        if other:
            return takeover.to_engine(ctx, applier, engine, manifests, held)
        return engine.up()
    if other and engine is not None:
        return takeover.to_render(ctx, applier, engine, manifests, held)
    return applier.apply(manifests, held)


def _endpoints(kubectl: Kubectl, namespace: str, names: outputs.Names, way: Way) -> Endpoints:
    """What answers behind the Service, once it lists every replica: EndpointSlices follow the pods.

    A replica that stays out of it (somebody took its label) is smoke's to judge.
    """

    found = find_endpoints(kubectl, namespace, names.deployment, names.service, way)
    if len(found.endpoints.replicas) >= found.wanted:
        return found.endpoints

    def attempt() -> None:  # by the slices alone: pods are read once more at the end, however many there are
        count = listed(kubectl, namespace, names.service)
        if count < found.wanted:
            raise retry.Pending(f"{count} of {found.wanted} replicas are listed")

    with contextlib.suppress(Timeout):
        retry.wait_for(f"{names.service} lists every replica", attempt, timeout=LISTED_SECONDS)
    return find_endpoints(kubectl, namespace, names.deployment, names.service, way).endpoints


def env(ctx: Context, settings: Settings) -> dict[str, str]:
    """Variables with which kubectl and `pulumi up` at the project's root work on this deployment."""
    kubeconfig = settings.cluster.kubeconfig or ctx.state.kubeconfig
    return {"PATH": str(ctx.state.bin), **variables(ctx, settings, kubeconfig)}
