"""What a run deploys, before it is known how: the stack rendered for these settings, and the clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.clients import pulumi_render, pulumi_stack
from slipway.clients.kubectl import Kubectl, Manifest
from slipway.clients.pulumi_render import Rendered
from slipway.core.context import Context
from slipway.core.registries import brought, in_use
from slipway.core.schema import Settings
from slipway.core.state import link_atomically
from slipway.core.types import Cluster, ImageRef, Registry
from slipway.deploy import deployed, stack_inputs
from slipway.deploy.applying import Applier
from slipway.deploy.engine import project_of, stack_of
from slipway.deploy.way import Way


@dataclass(frozen=True)
class Declared:
    """What a run deploys, before it is known how: clients, configuration, manifests."""

    kubectl: Kubectl
    registry: Registry | None
    config: dict[str, str]
    rendered: Rendered
    applier: Applier

    @property
    def namespace(self) -> str:
        """Namespace of the deployment."""
        return self.applier.namespace

    @property
    def login(self) -> Registry | None:
        """The registry, where pulling from it takes a login."""
        return self.registry if self.registry is not None and self.registry.username is not None else None


def declare(ctx: Context, settings: Settings, cluster: Cluster, image: ImageRef) -> Declared:
    """Render the stack for these settings. Raises UsageError when its inputs are wrong."""
    registry = in_use(settings, cluster)
    config = stack_inputs.config(settings, image, registry)
    rendered = pulumi_render.render(config)
    namespace = next(
        item["metadata"]["namespace"] for item in rendered.manifests if item["kind"] == "Deployment"
    )
    kubectl = Kubectl.of(cluster)
    link_atomically(ctx.state.bin / "kubectl", cluster.kubectl)
    return Declared(kubectl, registry, config, rendered, Applier(kubectl, namespace, deployed.applyset(ctx)))


def configure(ctx: Context, declared: Declared, by: Way, *, preview: bool = False) -> Path | None:
    """Write the stack's configuration, so that `pulumi up` by hand takes the same inputs.

    A preview writes it into the state folder instead, because it may change nothing else. Returns the
    file, or None if the project lies elsewhere and render needs no file.
    """
    project, stack = project_of(ctx), stack_of(ctx)
    if by != "engine" and pulumi_stack.stack_name(project, ctx.state.root) != "lab":
        return None
    # With the engine this stage waits itself: it tells why a pod does not start, and a wait that is
    # killed leaves nothing pending in Pulumi's state.
    waiting = {"await": "false"} if by == "engine" else {}
    file = pulumi_stack.stack_file(project, stack)
    target = ctx.state.pulumi / "preview.yaml" if preview else file
    pulumi_stack.write_config(file, {**declared.config, **waiting}, declared.kubectl.context, target)
    return target


def render(settings: Settings, image: ImageRef) -> list[Manifest]:
    """The manifests with their namespace, the pull secret by name only."""
    config = stack_inputs.config(settings, image, brought(settings))
    del config["createNamespace"]
    return list(pulumi_render.render(config).manifests)
