"""Ask a backend for machines, and pin their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.stage import HasBake
from slipway.core.types import Hosts, Outcome
from slipway.hosts.backends import backend, every, made_here
from slipway.hosts.base import Bakes


@dataclass(frozen=True)
class MakeHosts:
    """Settings -> Hosts that answer SSH. On failure what exists stays recorded for `up` and `down`.

    bakers: later stages whose work on a host that does not depend on which one it is, is in it from the
    start, where hosts are made here.
    """

    bakers: Sequence[HasBake] = ()
    title: ClassVar[str] = "Make or reach the hosts"

    def should_run(self, settings: Settings) -> str:
        """Not wanted for an existing cluster, unless there are machines beside it (to build on)."""
        if settings.cluster.kubeconfig is not None and settings.hosts.backend == "nspawn":
            return f"cluster.kubeconfig brings an existing cluster ({settings.cluster.kubeconfig})"
        return ""

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """What `run` would change on this machine."""
        return backend(settings, self.bakers).plan(ctx, settings)

    def run(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """Bring the hosts up, or find them up."""
        return backend(settings, self.bakers).up(ctx, settings)

    def bake(self, ctx: Context, settings: Settings) -> tuple[Path, int]:
        """The golden root of hosts made here, and how much had to be made for it.

        Raises UsageError for hosts that are not made here, or are to be made bare.
        """
        chosen = backend(settings, self.bakers)
        if not isinstance(chosen, Bakes):
            raise UsageError(
                f"hosts.backend is {chosen.name}, whose hosts have roots of their own",
                action="set hosts.backend: nspawn",
            )
        if not settings.hosts.golden:
            raise UsageError("hosts.golden is false: hosts are made bare", action="set hosts.golden: true")
        return chosen.bake(ctx, settings)

    def collect(self, ctx: Context) -> Sequence[Reading]:
        """Journals, failed units and consoles of the hosts, whatever state they are in."""
        return made_here(ctx).collect(ctx, ctx.state.kept(Hosts))

    def remove(self, ctx: Context, settings: Settings) -> list[str]:
        """Part of `down`: the hosts that were made here; machines somebody else made stay."""
        return take_down(ctx)


def take_down(ctx: Context) -> list[str]:
    """Remove every host that was made for this state folder, whatever the settings say by now."""
    return [line for one in every() for line in one.down(ctx)]
