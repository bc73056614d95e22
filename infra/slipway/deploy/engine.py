"""Pulumi's engine for one state folder: its CLI, its project, the stack's configuration and variables."""

from __future__ import annotations

from pathlib import Path

from slipway import artifacts
from slipway.artifacts import cache
from slipway.clients import pulumi_stack
from slipway.clients.kubectl import Kubectl
from slipway.clients.pulumi_engine import Engine
from slipway.core import project
from slipway.core.context import Context
from slipway.core.events import Detail, Note
from slipway.core.schema import Settings
from slipway.core.state import link_atomically


def ensure_cli(ctx: Context, settings: Settings) -> str:
    """Put a Pulumi CLI where `engine_of` finds it; returns which one, for people.

    The one on PATH where its version fits, else the one of artifacts.sources with its plugin, which may take
    a quarter of an hour to build once. Raises EnvironmentFault, ArtifactError or CommandError when neither
    can be had.
    """
    own = pulumi_stack.find_cli()
    unfit = pulumi_stack.unfit(own) if own is not None else ""
    if own is not None and not unfit:
        link_atomically(_kept(ctx), own)
        return f"{own} is on PATH"
    if unfit:
        ctx.emit(Note(f"{own} is not used: {unfit}"))
    cli = artifacts.pulumi(ctx, settings)
    link_atomically(_kept(ctx), cli)
    _lay_plugins(ctx.state.pulumi / "home" / "plugins", cli.parents[1] / "home" / "plugins")
    return f"Pulumi of {cli.parents[1].name}"


def at_hand(ctx: Context, settings: Settings) -> bool:
    """Whether the engine can be had without building or fetching anything."""
    own = pulumi_stack.find_cli()
    return (own is not None and not pulumi_stack.unfit(own)) or (
        artifacts.cached_pulumi(ctx, settings) is not None
    )


def _kept(ctx: Context) -> Path:
    return ctx.state.bin / "pulumi"


def _lay_plugins(home: Path, cached: Path) -> None:
    """Put the cached plugins into Pulumi's own folder, file by file.

    Pulumi notes beside a plugin when it was last used: through a link to the folder it would write into
    the cache, whose next check would throw the whole entry away.
    """
    if home.is_symlink():  # as earlier versions made it
        home.unlink()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(cached.rglob("*")):
        to = home / path.relative_to(cached)
        if path.is_dir():
            to.mkdir(exist_ok=True)
        elif not to.exists() or to.stat().st_size != path.stat().st_size:
            to.unlink(missing_ok=True)
            cache.link(path, to)


def engine_of(ctx: Context, settings: Settings, kubectl: Kubectl) -> Engine | None:
    """Pulumi's engine for this state folder and cluster; None while no CLI was put there."""
    if not _kept(ctx).exists():
        return None
    stack = stack_of(ctx)
    return Engine(
        ctx.state.root,
        project_of(ctx),
        stack,
        _environment(ctx, settings, kubectl.kubeconfig, stack),
        on_line=lambda line: ctx.emit(Detail(line)),
    )


def project_of(ctx: Context) -> Path:
    """The folder of Pulumi.yaml: the project's or the checkout's.

    Of the one that an installed slipway carries, or one without the venv it names, it is a copy in the state
    folder, which names the Python that runs now.
    """
    found = ctx.project if (ctx.project / "Pulumi.yaml").is_file() else project.folder()
    if not project.carried(found) and pulumi_stack.has_venv(found):
        return found
    return pulumi_stack.copy_project(found, ctx.state.pulumi / "project")


def stack_of(ctx: Context) -> str:
    """The stack of this state folder; of several models each has its own."""
    return pulumi_stack.stack_name(project_of(ctx), ctx.state.root, ctx.state.model)


def variables(ctx: Context, settings: Settings, kubeconfig: Path) -> dict[str, str]:
    """What a shell needs for kubectl and `pulumi up` at the project's root."""
    return _environment(ctx, settings, kubeconfig, stack_of(ctx))


def _environment(ctx: Context, settings: Settings, kubeconfig: Path, stack: str) -> dict[str, str]:
    return pulumi_stack.environment(ctx.state.pulumi, kubeconfig, stack, settings.deploy.backend)
