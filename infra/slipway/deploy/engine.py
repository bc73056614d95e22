"""Pulumi's engine for one state folder: its project, the stack's configuration and variables."""

from __future__ import annotations

from pathlib import Path

from slipway.artifacts import pulumi_cli
from slipway.clients import pulumi_stack
from slipway.clients.kubectl import Kubectl
from slipway.clients.pulumi_engine import Engine
from slipway.core import project
from slipway.core.context import Context
from slipway.core.events import Detail
from slipway.core.schema import Settings


def engine_of(ctx: Context, settings: Settings, kubectl: Kubectl) -> Engine | None:
    """Pulumi's engine for this state folder and cluster; None while no CLI was put there."""
    if not pulumi_cli.kept(ctx).exists():
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
