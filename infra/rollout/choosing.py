"""What a deployment is made from: the way, the stack's configuration, the clients, what was done before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from infra import artifacts
from infra.clients import pulumi_stack
from infra.clients.kubectl import Kubectl, Manifest
from infra.clients.pulumi_stack import Engine, Rendered, Resource
from infra.cluster.registry import brought, in_use
from infra.core.context import Context
from infra.core.errors import DeployError, EnvironmentFault
from infra.core.events import Detail, Note
from infra.core.schema import Settings
from infra.core.state import link_atomically, write_atomically
from infra.core.types import Cluster, ImageRef, Registry
from infra.rollout import stack_inputs
from infra.rollout.applying import FIELD_MANAGER, Applier, Key, key_of, manager, owner
from stacks import outputs

Way = Literal["engine", "render"]


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


@dataclass(frozen=True)
class Earlier:
    """What this state folder deployed last."""

    namespace: str
    by: Way


def declare(ctx: Context, settings: Settings, cluster: Cluster, image: ImageRef) -> Declared:
    """Render the stack for these settings. Raises UsageError when its inputs are wrong."""
    registry = in_use(settings, cluster)
    config = stack_inputs.config(settings, image, registry)
    rendered = pulumi_stack.render(config)
    namespace = next(
        item["metadata"]["namespace"] for item in rendered.manifests if item["kind"] == "Deployment"
    )
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, settings.cluster.context)
    link_atomically(ctx.state.bin / "kubectl", cluster.kubectl)
    return Declared(kubectl, registry, config, rendered, Applier(kubectl, namespace))


def way(ctx: Context, settings: Settings, held: Mapping[Key, Manifest]) -> Way:
    """Engine or render, said in a Note with the reason. held: our objects as the cluster has them.

    Raises EnvironmentFault when the engine is asked for and there is no Pulumi CLI.
    """
    by, cli = settings.deploy.by, cli_of(ctx)
    if by == "engine" and cli is None:
        cli = _fetched(ctx, settings)
    if by == "engine" and cli is None:
        raise EnvironmentFault(
            "deploy.by is engine, and there is no `pulumi` on PATH nor from artifacts.sources",
            action="install the Pulumi CLI, or set deploy.by: render (the same objects through kubectl)",
        )
    there = next((item for key, item in held.items() if key[0] == "Deployment"), None)
    if by != "auto":
        chosen, why = by, f"deploy.by is {by}"
    elif cli is None:
        chosen, why = "render", "there is no `pulumi` on PATH"
    elif there is not None and manager(there) == FIELD_MANAGER:
        chosen, why = "render", "the deployment there was made by render"
    else:
        chosen, why = "engine", f"`pulumi` is {cli}"
    ctx.emit(Note(f"deploy by {chosen}: {why}"))
    return chosen


def cli_of(ctx: Context) -> Path | None:
    """The Pulumi CLI on PATH, or the one an earlier run fetched; None without either."""
    kept = ctx.state.bin / "pulumi"
    return pulumi_stack.find_cli() or (kept if kept.exists() else None)


def _fetched(ctx: Context, settings: Settings) -> Path | None:
    """The pinned CLI with its plugin, for who asks for the engine by name; auto downloads nothing."""
    cli = artifacts.pulumi(ctx, settings)
    if cli is None:
        return None
    link_atomically(ctx.state.bin / "pulumi", cli)
    # Pulumi writes into its home, and nothing writes into the cache
    plugins = ctx.state.pulumi / "home" / "plugins"
    plugins.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    link_atomically(plugins, cli.parents[1] / "home" / "plugins")
    return cli


def engine_of(ctx: Context, kubectl: Kubectl) -> Engine | None:
    """Pulumi's engine for this state folder and cluster; None without a Pulumi CLI."""
    cli = cli_of(ctx)
    if cli is None:
        return None
    link_atomically(ctx.state.bin / "pulumi", cli)
    project = project_of(ctx)
    stack = pulumi_stack.stack_name(project, ctx.state.root)
    return Engine(
        ctx.state.root,
        project,
        stack,
        pulumi_stack.environment(ctx.state.pulumi, kubectl.kubeconfig, stack),
        on_line=lambda line: ctx.emit(Detail(line)),
    )


def configure(ctx: Context, declared: Declared, by: Way, *, preview: bool = False) -> Path | None:
    """Write the stack's configuration, so that `pulumi up` by hand takes the same inputs.

    For a preview it is a file of the state folder, for then nothing else may change. None where the
    project lies elsewhere and render needs no file.
    """
    project = project_of(ctx)
    stack = pulumi_stack.stack_name(project, ctx.state.root)
    if by != "engine" and stack != "lab":
        return None
    # With the engine this stage waits itself: it tells why a pod does not start, and a wait that is
    # killed leaves nothing pending in Pulumi's state.
    waiting = {"await": "false"} if by == "engine" else {}
    file = pulumi_stack.stack_file(project, stack)
    target = ctx.state.pulumi / "preview.yaml" if preview else file
    pulumi_stack.write_config(file, {**declared.config, **waiting}, declared.kubectl.context, target)
    return target


def project_of(ctx: Context) -> Path:
    """The folder of Pulumi.yaml: that of slipway.yaml, or the checkout slipway is installed from."""
    here = ctx.project / "Pulumi.yaml"
    return ctx.project if here.is_file() else pulumi_stack.PROGRAM.parent


def variables(ctx: Context, kubeconfig: Path) -> dict[str, str]:
    """What a shell needs for kubectl and `pulumi up` at the project's root."""
    stack = pulumi_stack.stack_name(project_of(ctx), ctx.state.root)
    return pulumi_stack.environment(ctx.state.pulumi, kubeconfig, stack)


def refuse_strangers(declared: Declared, held: Mapping[Key, Manifest], engine: Engine | None) -> None:
    """Raise DeployError when one of these objects was not made by this way."""
    ours = engine.resources() if engine is not None else set()
    strangers = [
        (key, item)
        for key, item in held.items()
        if not (
            (manager(item).startswith("pulumi") and Resource(*key_of(item)) in ours)
            if engine is not None
            else manager(item) == FIELD_MANAGER
        )
    ]
    if not strangers:
        return
    own = all(manager(item) == FIELD_MANAGER for _, item in strangers)
    raise DeployError(
        f"{strangers[0][0][0]} {strangers[0][0][2]} exists already and was made by something else",
        where=f"namespace {declared.namespace}",
        tail="\n".join(f"{kind} {name}: {owner(item)}" for (kind, _, name), item in strangers),
        action="slipway made it by render: `slipway destroy` first, or set deploy.by: render"
        if own
        else "set deploy.namespace to another one, or take these away with the tool that made them",
    )


def refuse_leaving(ctx: Context, declared: Declared) -> None:
    """Raise DeployError rather than leave an earlier deployment running in another namespace unnoticed."""
    earlier = remembered(ctx)
    if earlier is None or earlier.namespace == declared.namespace:
        return
    if declared.kubectl.find("deployment", outputs.DEPLOYMENT, namespace=earlier.namespace) is not None:
        raise DeployError(
            f"{outputs.DEPLOYMENT} runs in namespace {earlier.namespace}; deploying to {declared.namespace} "
            "would leave it there",
            action="take it away first: `slipway destroy`",
        )


def remember(ctx: Context, earlier: Earlier) -> None:
    """Keep what was deployed where and how, for `destroy` and the next run."""
    write_atomically(_memory(ctx), json.dumps(asdict(earlier)))


def remembered(ctx: Context) -> Earlier | None:
    """What this state folder deployed last, None when nothing or unreadable."""
    try:
        return Earlier(**json.loads(_memory(ctx).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget(ctx: Context) -> list[str]:
    """Drop the memory and the stack's configuration file; one line per file removed."""
    project = project_of(ctx)
    stack = pulumi_stack.stack_name(project, ctx.state.root)
    removed = []
    if (project / "Pulumi.yaml").is_file():
        file = pulumi_stack.stack_file(project, stack)
        if file.is_file():
            file.unlink()
            removed.append(f"{file.relative_to(project)}")
    _memory(ctx).unlink(missing_ok=True)
    return removed


def _memory(ctx: Context) -> Path:
    return ctx.state.root / "deployed.json"


def kubectl_for(ctx: Context, kubeconfig: Path, context: str | None) -> Kubectl:
    """The client that deployed, or the one on PATH. Raises EnvironmentFault without any."""
    kept = ctx.state.bin / "kubectl"
    found = str(kept) if kept.exists() else shutil.which("kubectl")
    if found is None:
        raise EnvironmentFault("there is no kubectl", action="put kubectl on PATH")
    return Kubectl(Path(found), kubeconfig, context)


def manifests_for_others(settings: Settings, image: ImageRef) -> list[Manifest]:
    """The manifests with their namespace, the pull secret by name only."""
    config = stack_inputs.config(settings, image, brought(settings))
    del config["createNamespace"]
    return list(pulumi_stack.render(config).manifests)
