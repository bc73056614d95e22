"""Which backend makes or made the hosts."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.stage import HasBake
from slipway.core.types import Hosts
from slipway.hosts.base import Backend

__all__ = ["Backend", "backend", "every", "made_here"]


def backend(settings: Settings, bakers: Sequence[HasBake] = ()) -> Backend:
    """The backend these settings ask for. bakers: what is put into the root of hosts that are made here."""
    return _named(settings.hosts.backend, bakers)


def made_here(ctx: Context) -> Backend:
    """The backend whose hosts this state folder has.

    nspawn if none are on record: a killed `up` may have left parts.
    """
    hosts = ctx.state.kept(Hosts)
    return _named(hosts.backend if hosts is not None else "nspawn")


def every() -> tuple[Backend, ...]:
    """All backends: a state folder whose settings changed may hold something of each."""
    return tuple(_named(name) for name in ("nspawn", "lxd", "ssh", "vagrant", "pulumi"))


def _named(name: str, bakers: Sequence[HasBake] = ()) -> Backend:
    if name == "ssh":
        from slipway.hosts.existing import Existing

        return Existing()
    if name == "lxd":
        from slipway.hosts.lxd.backend import Lxd

        return Lxd(bakers)
    if name == "vagrant":
        from slipway.hosts.vagrant import Vagrant

        return Vagrant()
    if name == "pulumi":
        from slipway.hosts.created import Created

        return Created()
    from slipway.hosts.nspawn.backend import Nspawn

    return Nspawn(bakers=bakers)
