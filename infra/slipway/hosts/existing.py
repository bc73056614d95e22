"""Backend ssh: machines that exist, from an Ansible inventory. It reaches them and never changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slipway.clients import ansible_inventory, openssh, passwords, ssh
from slipway.core.context import Context
from slipway.core.errors import CommandError, HostError, SlipwayError, UsageError
from slipway.core.events import Note
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.types import Host, Hosts, Outcome
from slipway.hosts import base
from slipway.hosts.base import HostStatus
from slipway.hosts.resolving import hosts_of


class Existing:
    """Machines of hosts.inventory. They belong to someone else: `down` leaves them as they are."""

    name = "ssh"

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """See Backend.plan: nothing of these machines or of this one is changed."""
        del ctx
        ansible_inventory.machines(_inventory(settings))
        return []

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """See Backend.up: every machine answers with its known key, lets us in and gives root."""
        path = _inventory(settings)
        asks = passwords.told()
        hosts = tuple(replace(host, asks=asks) for host in hosts_of(path, ctx.state.accepted_keys))
        ctx.emit(Note(f"{len(hosts)} machines of {path}: nothing is made, `down` leaves them alone"))
        for host in hosts:
            if not openssh.checks_keys(host):
                ctx.emit(
                    Note(f"{host.name}: its host key is not checked, as its inventory or ssh's config asks")
                )
        base.on_each(hosts, need_root)
        value = Hosts(self.name, hosts, path.absolute())
        base.private_folder(ctx.state.root)
        changed = base.record(ctx.state, value)
        return Outcome(value, int(changed), f"{len(hosts)} existing machines of {path.name} answer")

    def down(self, ctx: Context) -> list[str]:
        """See Backend.down: forgets the machines, changes nothing on them."""
        removed = ctx.state.forget(Hosts)
        for file in (ctx.state.known_hosts, ctx.state.accepted_keys):
            if file.is_file():
                file.unlink()
                removed.append(f"file {file}")
        return removed

    def status(self, ctx: Context) -> tuple[HostStatus, ...]:
        """See Backend.status."""
        hosts = ctx.state.kept(Hosts)
        found: list[HostStatus] = []
        for host in hosts.hosts if hosts is not None else ():
            try:
                with ssh.connect(host, timeout=5):
                    found.append(HostStatus(host.name, host.address, "running", ", ".join(host.groups)))
            except SlipwayError as error:
                found.append(HostStatus(host.name, host.address, "unreachable", error.what))
        return tuple(found)

    def collect(self, ctx: Context, hosts: Hosts | None) -> Sequence[Reading]:
        """See Backend.collect."""
        known = hosts or ctx.state.kept(Hosts)
        if known is None:
            return ()
        return [base.host_reading(host) for host in known.hosts]


def _inventory(settings: Settings) -> Path:
    if settings.hosts.inventory is None:
        raise UsageError(
            "hosts.backend ssh needs hosts.inventory", action="name an Ansible inventory of your machines"
        )
    return settings.hosts.inventory


def need_root(host: Host) -> None:
    """Raise HostError when the host cannot be reached, lets nobody in, or gives no root."""
    try:
        base.need_root(host)
    except CommandError as error:
        raise HostError(
            "the login works, but commands as root do not",
            where=host.name,
            tail=error.output,
            action="set ansible_become_password (in a vault, best), let the user run sudo without a "
            "password, or set ansible_user: root",
        ) from error
