"""Backend ssh: machines that exist, from an Ansible inventory. It reaches them and never changes them."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway.clients import known_hosts, ssh
from slipway.clients.known_hosts import Recorded
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import CommandError, HostError, SlipwayError, UsageError
from slipway.core.events import Note
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.types import GROUPS, Host, Hosts, Outcome
from slipway.core.user_files import printable
from slipway.hosts import base
from slipway.hosts.base import HostStatus

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
            base.on_each(hosts, base.need_root)
        except CommandError as error:
            raise HostError(
                "the login works, but commands as root do not",
                where=error.where,
                tail=error.output,
                action="let the user run sudo without a password, or set ansible_user: root",
            ) from error
        value = Hosts(self.name, tuple(replace(host, identity=key) for host in hosts))
        base.private_folder(ctx.state.root)
        changed = base.record(ctx.state, value)
        return Outcome(value, int(changed), f"{len(hosts)} existing machines of {path.name} answer")

    def down(self, ctx: Context) -> list[str]:
        """See Backend.down: forgets the machines, changes nothing on them."""
        removed = ctx.state.forget(Hosts)
        if ctx.state.known_hosts.is_file():
            ctx.state.known_hosts.unlink()
            removed.append(f"file {ctx.state.known_hosts}")
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
        problems += [
            f"{machine.name}: {name} {why}, expected a plain value"
            for name in _TEXTS
            if (why := _not_plain(machine.variables.get(name)))
        ]
        problems += [
            f"{machine.name}: {name} is no line of words, expected what ssh takes: {error}"
            for name in _WORDS
            if (error := _not_words(machine.variable(name) or ""))
        ]
    if problems:
        raise UsageError(
            f"{path} cannot be used: {problems[0]}",
            tail="\n".join(problems[1:]),
            action=f"expected a form like\n{EXPECTED}",
        )
    return machines


# What is read of a machine, each a word
_TEXTS = (
    *("ansible_host", "ansible_ssh_host", "ansible_user", "ansible_ssh_user", "slipway_host_key"),
    *("ansible_ssh_private_key_file", "ansible_private_key_file"),
)

_WORDS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")


def _not_plain(value: object) -> str:
    """Why a variable's value cannot be used as it is; empty if it can."""
    if isinstance(value, Mapping) and "__ansible_vault" in value:
        return "is encrypted"
    if isinstance(value, Mapping | list):
        return f"is a {'list' if isinstance(value, list) else 'mapping'}"
    if "{{" in str(value):
        return "is a template"
    return "" if str(value).isprintable() else f"is {printable(repr(value), 100)}"


def _not_words(text: str) -> str:
    """Why a shell would not take a text apart into words; empty if it would."""
    try:
        shlex.split(text)
    except ValueError as error:
        return str(error)
    return ""


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
        _need_direct_way(machine, inventory)
        host = Host(
            name=machine.name,
            address=machine.variable("ansible_host", "ansible_ssh_host") or machine.name,
            user=machine.variable("ansible_user", "ansible_ssh_user") or "root",
            host_key="",
            groups=machine.groups,
            port=int(machine.variable("ansible_port", "ansible_ssh_port") or 22),
        )
        found = known_hosts.recorded(
            [*known_hosts_files(machine, inventory), user_known_hosts], ssh.known_name(host)
        )
        pinned = " ".join((machine.variable("slipway_host_key") or "").split()[:2])
        if pinned in found.revoked:
            raise HostError(
                f"slipway_host_key is a key that {found.revoked[pinned]} revokes",
                where=machine.name,
                action="set the key that the machine has now",
            )
        if pinned or found.keys:
            hosts.append(replace(host, host_key=pinned or found.keys[0]))
        else:
            unknown.append(_how_to_record(host, user_known_hosts, found))
    if unknown:
        raise HostError(
            f"the host keys of {len(unknown)} machines are not known: nothing is accepted unseen",
            tail="\n".join(unknown),
            action="record them with these commands, compare the fingerprints with the machines' own"
            " (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), or set slipway_host_key in the inventory",
        )
    return key, tuple(hosts)


def _how_to_record(host: Host, user_known_hosts: Path, found: Recorded) -> str:
    """The command that records a host's key, and why those that are there do not count."""
    why = [host.name]
    why += [f"its key of before is revoked in {found.revoked[key]}" for key in found.taken_back[:1]]
    why += ["certificates of hosts are not understood, only keys"] if found.authorities else []
    command = f"ssh-keyscan -t ed25519 -p {host.port} {host.address} >>{shlex.quote(str(user_known_hosts))}"
    return f"{command}   # {', '.join(why)}"


def known_hosts_files(machine: Machine, inventory: Path) -> list[Path]:
    """The UserKnownHostsFile of ansible_ssh_common_args and the like."""
    return [
        _relative(Path(file).expanduser(), inventory)
        for option, value in _ssh_options(machine)
        if option == "userknownhostsfile"
        for file in shlex.split(value)
    ]


def _need_direct_way(machine: Machine, inventory: Path) -> None:
    """Refuse machines behind a jump host: slipway's own connections would not go that way."""
    for option, value in _ssh_options(machine):
        if option in ("proxyjump", "proxycommand", "j") and value.lower() != "none":
            raise UsageError(
                f"{machine.name} is reached through another machine "
                f"({option if len(option) > 1 else '-J'} {value}): slipway connects to machines directly",
                where=str(inventory),
                action="run slipway on a machine that reaches them without a jump, such as the jump host",
            )


def _ssh_options(machine: Machine) -> Iterator[tuple[str, str]]:
    """(option in lower case, value) of each -o and -J in the machine's words for ssh, as ssh reads them."""
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args"):
        words = iter(shlex.split(machine.variable(name) or ""))
        for word in words:
            if word[:2] in ("-o", "-J"):
                given = word[2:] or next(words, "")
                if word.startswith("-J"):
                    yield "j", given
                elif match := re.fullmatch(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)", given):
                    yield match[1].lower(), match[2]


def _relative(path: Path, inventory: Path) -> Path:
    return path if path.is_absolute() else inventory.parent / path
