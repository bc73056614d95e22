"""Ask a backend for machines, and pin their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from slipway.core.context import Context
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.types import Hosts, Outcome
from slipway.hosts.backends import backend, every, made_here


class MakeHosts:
    """Settings -> Hosts that answer SSH. On failure what exists stays recorded for `up` and `down`."""

    title: ClassVar[str] = "Make or reach the hosts"

    def should_run(self, settings: Settings) -> str:
        """Not wanted for an existing cluster, unless an inventory names machines (to build on)."""
        if settings.cluster.kubeconfig is not None and settings.hosts.backend != "ssh":
            return f"cluster.kubeconfig brings an existing cluster ({settings.cluster.kubeconfig})"
        return ""

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """What `run` would change on this machine."""
        return backend(settings).plan(ctx, settings)

    def run(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """Bring the hosts up, or find them up."""
        return backend(settings).up(ctx, settings)

    def collect(self, ctx: Context) -> Sequence[Reading]:
        """Journals, failed units and consoles of the hosts, whatever state they are in."""
        return made_here(ctx).collect(ctx, ctx.state.kept(Hosts))

    def remove(self, ctx: Context, settings: Settings) -> list[str]:
        """Part of `down`: the hosts that were made here; machines somebody else made stay."""
        return take_down(ctx)


def take_down(ctx: Context) -> list[str]:
    """Remove every host that was made for this state folder, whatever the settings say by now."""
    return [line for one in every() for line in one.down(ctx)]
