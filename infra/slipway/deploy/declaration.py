"""What a run deploys, before it is known how: the stack rendered for these settings, and the clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.clients import pulumi_render, pulumi_stack
from slipway.clients.kubectl import Kubectl, Manifest
from slipway.clients.pulumi_render import Rendered
from slipway.core.context import Context
from slipway.core.events import Note
from slipway.core.registries import brought, in_use
from slipway.core.schema import Settings
from slipway.core.state import link_atomically
from slipway.core.types import Cluster, ExportedModel, ImageRef, Registry
from slipway.deploy import deployed, stack_config, stack_inputs
from slipway.deploy.applying import Applier
from slipway.deploy.engine import project_of, stack_of
from slipway.deploy.model_size import require_room
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


def declare(
    ctx: Context, settings: Settings, cluster: Cluster, image: ImageRef, model: ExportedModel | None = None
) -> Declared:
    """Render the stack for these settings, and for what people have set in its file.

    model: what the image serves, where it is known. Raises UsageError when inputs are wrong, or leave the
    model too little memory.
    """
    registry = in_use(settings, cluster)
    config = stack_inputs.config(settings, image, registry)
    file, own = stack_config.of_people(ctx)
    if added := sorted(own.keys() - config.keys()):
        ctx.emit(Note(f"as {file} says: {', '.join(f'{key} {own[key]}' for key in added)}"))
    rendered = pulumi_render.render({**own, **config})
    if model is not None and (tight := require_room(rendered.manifests, model, image.server)):
        ctx.emit(Note(tight))
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
    config = pulumi_stack.full_config({**declared.config, **waiting}, declared.kubectl.context)
    if not preview:
        return stack_config.write(ctx, config)
    target = ctx.state.pulumi / "preview.yaml"
    file = pulumi_stack.stack_file(project, stack)
    pulumi_stack.write_config(file, config, stack_config.written(ctx), target)
    return target


def render(ctx: Context, settings: Settings, image: ImageRef) -> list[Manifest]:
    """The manifests with their namespace, the pull secret by name only."""
    config = stack_config.of_people(ctx)[1] | stack_inputs.config(settings, image, brought(settings))
    del config["createNamespace"]
    return list(pulumi_render.render(config).manifests)
