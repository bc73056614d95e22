"""Host backends: where the machines come from.

In: Settings. Out: Hosts that answer SSH with a pinned key. Never here: what is installed on them.
nspawn.py and ssh.py are the backends, base.py their contract and what they share; the other files are
the parts of nspawn's labs: what is planned (design), owned (labs), made (roots, host_files, network) and run.
"""

from __future__ import annotations

from infra.backends.base import Backend, recorded
from infra.core.context import Context
from infra.core.schema import Settings

__all__ = ["Backend", "backend", "every", "made_here"]


def backend(settings: Settings) -> Backend:
    """The backend these settings ask for."""
    return _named(settings.hosts.backend)


def made_here(ctx: Context) -> Backend:
    """The backend whose hosts this state folder has; nspawn when none were recorded, for it may be half-way."""
    hosts = recorded(ctx.state)
    return _named(hosts.backend if hosts is not None else "nspawn")


def every() -> tuple[Backend, ...]:
    """All backends: a state folder may hold what each left, when its settings changed from one to the other."""
    return _named("nspawn"), _named("ssh")


def _named(name: str) -> Backend:
    if name == "ssh":
        from infra.backends.ssh import Existing

        return Existing()
    from infra.backends.nspawn import Nspawn

    return Nspawn()
