"""Backend ssh: machines that exist, from an Ansible inventory. It reaches them and never changes them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.backends import base
from infra.backends.base import HostStatus
from infra.clients import ssh
from infra.core import process
from infra.core.context import Context
from infra.core.errors import CommandError, HostError, SlipwayError, UsageError
from infra.core.events import Note
from infra.core.schema import Settings
from infra.core.types import GROUPS, Host, Hosts, Outcome

EXPECTED = """\
all:
  children:
    control_plane: {hosts: {cp: {ansible_host: 192.0.2.10, ansible_user: root}}}
    worker: {hosts: {worker-1: {ansible_host: 192.0.2.11, ansible_user: root}}}"""


@dataclass(frozen=True)
class Machine:
    """One machine of an inventory: its groups, and its variables as Ansible would resolve them."""

    name: str
    groups: tuple[str, ...]
    variables: dict[str, Any]

    def variable(self, *names: str) -> str | None:
        """The first of these variables that is set, as text."""
        for name in names:
            if self.variables.get(name) is not None:
                return str(self.variables[name])
        return None


class Existing:
    """Machines of hosts.inventory. They belong to someone else: `down` leaves them as they are."""

    name = "ssh"

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """See Backend.plan: nothing of these machines or of this one is changed."""
        del ctx
        read_inventory(_inventory(settings))
        return []

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """See Backend.up: every machine answers with its known key, lets us in and gives root."""
        path = _inventory(settings)
        machines = read_inventory(path)
        ctx.emit(Note(f"{len(machines)} machines of {path}: nothing is made, `down` leaves them alone"))
        key, hosts = resolve(machines, path, Path.home() / ".ssh" / "known_hosts")
        try:
            gathered = base.gather_all(hosts, key)
        except CommandError as error:
            raise HostError(
                "the login works, but commands as root do not",
                where=error.where,
                tail=error.output,
                action="let the user run sudo without a password, or set ansible_user: root",
            ) from error
        value = Hosts(self.name, gathered, key)
        base.private_folder(ctx.state.root)
        changed = base.record(ctx.state, value)
        return Outcome(value, int(changed), f"{len(gathered)} existing machines of {path.name} answer")

    def down(self, ctx: Context) -> list[str]:
        """See Backend.down: forgets the machines, changes nothing on them."""
        removed: list[str] = []
        for path in (ctx.state.hosts / "hosts.json", base.known_hosts(ctx.state)):
            if path.is_file():
                path.unlink()
                removed.append(f"file {path}")
        return removed

    def status(self, ctx: Context) -> tuple[HostStatus, ...]:
        """See Backend.status."""
        hosts = base.recorded(ctx.state)
        found: list[HostStatus] = []
        for host in hosts.hosts if hosts is not None else ():
            try:
                with ssh.connect(host, hosts.identity if hosts else None, timeout=5):
                    found.append(HostStatus(host.name, host.address, "running", ", ".join(host.groups)))
            except SlipwayError as error:
                found.append(HostStatus(host.name, host.address, "unreachable", error.what))
        return tuple(found)

    def collect(self, ctx: Context, hosts: Hosts | None) -> tuple[Path, ...]:
        """See Backend.collect."""
        known = hosts or base.recorded(ctx.state)
        if known is None:
            return ()
        return tuple(base.collect_host(ctx, host, known.identity) for host in known.hosts)


def _inventory(settings: Settings) -> Path:
    if settings.hosts.inventory is None:
        raise UsageError(
            "hosts.backend ssh needs hosts.inventory", action="name a YAML inventory of your machines"
        )
    return settings.hosts.inventory


def read_inventory(path: Path) -> tuple[Machine, ...]:
    """The machines of an Ansible inventory that are in one of slipway's groups.

    Ansible itself reads it, so ranges, group_vars and precedence are Ansible's. Raises UsageError,
    every problem at once, with the form that is expected.
    """
    program = Path(sys.executable).parent / "ansible-inventory"
    try:
        listed = process.run(
            [program, "--inventory", path, "--list"],
            # else a file Ansible cannot read is an empty inventory and a warning
            env={"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true", "ANSIBLE_NOCOLOR": "1"},
            timeout=120,
        )
    except CommandError as error:
        raise UsageError(
            f"Ansible cannot read the inventory {path}",
            tail=error.output,
            action=f"expected a form like\n{EXPECTED}",
        ) from error
    return machines_of(json.loads(listed.stdout), path)


def machines_of(listed: Mapping[str, Any], path: Path) -> tuple[Machine, ...]:
    """The machines in what `ansible-inventory --list` prints; raises as read_inventory does."""
    found: dict[str, list[str]] = {}
    for group in GROUPS:
        for spelling in dict.fromkeys((group, group.replace("_", "-"))):
            for name in _hosts_of(listed, spelling):
                found.setdefault(name, []).append(group)
    hostvars = listed.get("_meta", {}).get("hostvars", {})
    machines = tuple(
        Machine(name, tuple(dict.fromkeys(groups)), hostvars.get(name, {})) for name, groups in found.items()
    )
    problems: list[str] = []
    if not machines:
        problems.append(f"no host is in one of the groups {', '.join(GROUPS)}")
    elif not any("control_plane" in machine.groups for machine in machines) and any(
        "worker" in machine.groups for machine in machines
    ):
        problems.append("there are hosts in group worker but none in control_plane")
    for machine in machines:
        port = machine.variable("ansible_port", "ansible_ssh_port")
        if port is not None and not (port.isdigit() and 0 < int(port) < 65536):
            problems.append(f"{machine.name}: ansible_port is {port!r}, expected 1 to 65535")
        for variable in ("ansible_host", "ansible_user", "ansible_ssh_private_key_file"):
            if "{{" in (machine.variable(variable) or ""):
                problems.append(f"{machine.name}: {variable} is a template, expected a plain value")
    if problems:
        raise UsageError(
            f"{path} cannot be used: {problems[0]}",
            tail="\n".join(problems[1:]),
            action=f"expected a form like\n{EXPECTED}",
        )
    return machines


def _hosts_of(listed: Mapping[str, Any], group: str) -> list[str]:
    content = listed.get(group, {})
    below = [name for child in content.get("children", ()) for name in _hosts_of(listed, child)]
    return list(dict.fromkeys([*content.get("hosts", ()), *below]))


def resolve(
    machines: Iterable[Machine], inventory: Path, user_known_hosts: Path
) -> tuple[Path | None, tuple[Host, ...]]:
    """The one key all machines take (None: the agent's) and the hosts, each with its known host key.

    Raises HostError for hosts whose key nobody recorded, with the command that records it.
    """
    wanted = tuple(machines)
    identities = {
        machine.variable("ansible_ssh_private_key_file", "ansible_private_key_file") for machine in wanted
    }
    if len(identities) > 1:
        raise UsageError(
            f"the machines of {inventory} use {len(identities)} different keys: slipway uses one",
            action="set one ansible_ssh_private_key_file for all, or none and an agent that holds them",
        )
    identity = next(iter(identities))
    key = None if identity is None else _relative(Path(identity).expanduser(), inventory)
    if key is not None and not key.is_file():
        raise UsageError(
            f"ansible_ssh_private_key_file: {key} does not exist",
            where=str(inventory),
            action="correct it there, or leave it out and add the key to an agent",
        )
    hosts: list[Host] = []
    unknown: list[str] = []
    for machine in wanted:
        host = Host(
            name=machine.name,
            address=machine.variable("ansible_host", "ansible_ssh_host") or machine.name,
            user=machine.variable("ansible_user", "ansible_ssh_user") or "root",
            host_key="",
            groups=machine.groups,
            port=int(machine.variable("ansible_port", "ansible_ssh_port") or 22),
        )
        files = [*known_hosts_files(machine, inventory), user_known_hosts]
        pinned = machine.variable("slipway_host_key") or known_key(host, files)
        if pinned:
            hosts.append(replace(host, host_key=" ".join(pinned.split()[:2])))
        else:
            unknown.append(
                f"ssh-keyscan -t ed25519 -p {host.port} {host.address} >>{user_known_hosts}   # {host.name}"
            )
    if unknown:
        raise HostError(
            f"the host keys of {len(unknown)} machines are not known: nothing is accepted unseen",
            tail="\n".join(unknown),
            action="record them with these commands, compare the fingerprints with the machines' own"
            " (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), or set slipway_host_key in the inventory",
        )
    return key, tuple(hosts)


def known_hosts_files(machine: Machine, inventory: Path) -> list[Path]:
    """The UserKnownHostsFile of ansible_ssh_common_args and the like."""
    found: list[Path] = []
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args"):
        for word in shlex.split(machine.variable(name) or ""):
            option, _, value = word.removeprefix("-o").partition("=")
            if option == "UserKnownHostsFile" and value:
                found.append(_relative(Path(value).expanduser(), inventory))
    return found


def known_key(host: Host, files: Iterable[Path]) -> str | None:
    """A host's recorded public key "type blob", ed25519 before others; hashed names are understood."""
    name = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
    for file in files:
        if not file.is_file():
            continue
        if found := ssh.recorded_key(file, name):
            return found
    return None


def _relative(path: Path, inventory: Path) -> Path:
    return path if path.is_absolute() else inventory.parent / path
