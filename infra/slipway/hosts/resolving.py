"""An inventory's machines -> hosts: where OpenSSH ends up, and the words that lead it there."""

from __future__ import annotations

import getpass
import re
import shlex
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from slipway.clients import ansible_inventory, known_hosts, openssh
from slipway.clients.ansible_inventory import Machine, folder_of
from slipway.core.errors import HostError, UsageError
from slipway.core.state import State, write_atomically
from slipway.core.types import Host
from slipway.hosts import base

# Options of OpenSSH that name files; a relative one is beside the inventory, if there is such a file
_FILES = ("userknownhostsfile", "globalknownhostsfile", "identityfile", "certificatefile", "revokedhostkeys")
_WORDS = ("ssh_args", "ssh_common_args", "ssh_extra_args")


def hosts_of(inventory: Path, accepted: Path | None = None) -> tuple[Host, ...]:
    """The hosts of an Ansible inventory, of any kind that Ansible reads; nothing is connected to.

    accepted: a known_hosts file of keys that were accepted when they were first seen. Raises UsageError for
    what an inventory asks that slipway cannot do, all of it at once; HostError for a pinned key that is
    revoked.
    """
    machines = ansible_inventory.machines(inventory)
    problems = [f"{machine.name}: {problem}" for machine in machines for problem in _refused(machine)]
    if problems:
        raise UsageError(
            f"{inventory} cannot be used: {problems[0]}",
            tail="\n".join(problems[1:]),
            action="correct it there; docs/inventory.md says what of an inventory is used, and how",
        )
    return tuple(_with_key(_host(machine, inventory), machine, accepted) for machine in machines)


def _refused(machine: Machine) -> Iterator[str]:
    """What a machine asks for that slipway has no way to do."""
    if machine.connection not in ("ssh", "smart", "local"):
        yield f"ansible_connection is {machine.connection}, expected ssh or local"
    if machine.ssh_executable != "ssh":
        yield f"ansible_ssh_executable is {machine.ssh_executable}, expected the ssh of the PATH"
    if machine.become_user != "root":
        yield f"ansible_become_user is {machine.become_user}, expected root"
    if machine.user != "root":
        if not machine.become:
            yield "ansible_become is false, expected true for a user who is not root"
        if (machine.become_method, machine.become_exe) != ("sudo", "sudo"):
            yield f"root is taken by {machine.become_method} {machine.become_exe}, expected sudo"
    for name in _WORDS:
        try:
            shlex.split(getattr(machine, name))
        except ValueError as error:
            yield f"ansible_{name} is no line of words, expected what ssh takes: {error}"


def _host(machine: Machine, inventory: Path) -> Host:
    """Where OpenSSH ends up, as OpenSSH itself says.

    Raises UsageError when it takes its words or its configuration for wrong, or a key's file is not there.
    """
    secret = machine.password is not None or machine.become_password is not None
    host = Host(
        machine.name,
        _own_address(machine),
        machine.user or getpass.getuser(),
        "",
        machine.groups,
        identity=_identity(machine, inventory),
        connection="local" if machine.connection == "local" else "ssh",
        passwords=inventory.absolute() if secret else None,
    )
    if host.connection == "local":
        return replace(host, identity=None)
    given = [word for name in _WORDS for word in _words(getattr(machine, name), inventory)]
    first = [] if machine.host_key_checking else ["-o", "StrictHostKeyChecking=no"]
    # as Ansible calls it; what is not here is for OpenSSH's configuration to say
    asked = [
        *(("-p", str(machine.port)) if machine.port else ()),
        *(("-l", machine.user) if machine.user else ()),
    ]
    found = openssh.configuration([*first, *given, *asked, machine.host], machine.name)
    if found["stricthostkeychecking"] == ["ask"]:
        first = ["-o", "StrictHostKeyChecking=yes"]  # nobody can be asked
    (address,), (user,), (port,) = found["hostname"], found["user"], found["port"]
    return replace(
        host,
        address=address,
        user=user,
        port=int(port),
        alias=machine.host if machine.host != address else "",
        options=(*first, *given),
    )


def _own_address(machine: Machine) -> str:
    """A machine's address; of this one itself, where the inventory has none, the default route's."""
    if machine.connection != "local" or machine.host not in (machine.name, "localhost"):
        return machine.host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _identity(machine: Machine, inventory: Path) -> Path | None:
    if machine.private_key_file is None:
        return None
    key = beside(Path(machine.private_key_file).expanduser(), inventory)
    if not key.is_file():
        raise UsageError(
            f"ansible_ssh_private_key_file: {key} does not exist",
            where=f"{machine.name} of {inventory}",
            action="correct it there, or leave it out and add the key to an agent",
        )
    return key


def _with_key(host: Host, machine: Machine, accepted: Path | None) -> Host:
    """The host with its pinned key: the inventory's, or one that was accepted earlier for the same place."""
    if host.connection == "local":
        return host
    pinned = " ".join((machine.host_key or "").split()[:2])
    if not pinned and accepted is not None:
        pinned = known_hosts.key_of(accepted, openssh.known_name(host))
    if not pinned:
        return host
    files = openssh.known_hosts_files(host)
    gone = known_hosts.revoked(files, openssh.known_name(host))
    if pinned in gone:
        raise HostError(
            f"its pinned host key is one that {gone[pinned]} revokes",
            where=machine.name,
            action="set slipway_host_key to the key that the machine has now, or `slipway hosts down` first",
        )
    return replace(host, host_key=pinned)


def _words(text: str, inventory: Path) -> Iterator[str]:
    """An inventory's words for OpenSSH, with files beside it by their whole path."""
    words = iter(shlex.split(text))
    for word in words:
        flag, value = word[:2], word[2:]
        if flag not in ("-o", "-F", "-i"):
            yield word
            continue
        value = value or next(words, "")
        yield flag
        if flag != "-o":
            yield value if value == "none" else str(beside(Path(value).expanduser(), inventory))
            continue
        option = re.fullmatch(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)", value)
        if option is None or option[1].lower() not in _FILES:
            yield value
        else:
            yield f"{option[1]}={' '.join(_file(name, inventory) for name in shlex.split(option[2]))}"


def _file(name: str, inventory: Path) -> str:
    path = folder_of(inventory) / name
    return openssh.quoted(path) if not Path(name).is_absolute() and path.is_file() else f'"{name}"'


def beside(path: Path, inventory: Path) -> Path:
    """A path of an inventory: a relative one is beside it."""
    return path if path.is_absolute() else folder_of(inventory) / path


def record_accepted(state: State, hosts: Iterable[Host]) -> None:
    """Keep the keys of these hosts as accepted; a host's earlier one is replaced."""
    base.private_folder(state.root)
    base.private_folder(state.ssh)
    before = state.accepted_keys.read_text().splitlines() if state.accepted_keys.is_file() else []
    new = {openssh.known_name(host): openssh.known_hosts_line(host) for host in hosts}
    kept = [line for line in before if line.split(" ")[0] not in new]
    write_atomically(state.accepted_keys, "".join(f"{line}\n" for line in (*kept, *new.values())), 0o600)
