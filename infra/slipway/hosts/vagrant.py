"""Backend vagrant: the machines of a Vagrantfile, which `vagrant up` makes and `vagrant destroy` removes.

In: what `vagrant ssh-config` says, and the inventory that Vagrant's Ansible provisioner wrote. Vagrant itself
asks no machine who it is. The key that one shows where Vagrant reaches it is taken when slipway first sees
the machine, and must stay.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import yaml

from slipway.clients import known_hosts
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import CommandError, HostError, UsageError
from slipway.core.schema import Settings
from slipway.core.state import write_atomically
from slipway.core.types import GROUPS
from slipway.hosts import base
from slipway.hosts.existing import Existing

WRITTEN = Path("provisioners/ansible/inventory/vagrant_ansible_inventory")
SECONDS = 120.0  # Vagrant is slow to start, and asks its provider about each machine


@dataclass(frozen=True)
class Machine:
    """A machine as Vagrant's inventory has it. address: its own in the private network, None without one."""

    name: str
    groups: tuple[str, ...]
    address: str | None


@dataclass(frozen=True)
class Way:
    """How Vagrant reaches a machine."""

    address: str
    port: int
    user: str
    key: str


class Vagrant(Existing):
    """Machines of a Vagrantfile. `down` leaves them to Vagrant."""

    name = "vagrant"

    def inventory(self, ctx: Context, settings: Settings) -> Path:
        """What Vagrant says of its machines, with the keys they show, as a file.

        Raises HostError where Vagrant has no machines, UsageError where there is no Vagrantfile.
        """
        folder = vagrantfile(ctx.state.root.parent.absolute()).parent
        data = Path(folder, os.environ.get("VAGRANT_DOTFILE_PATH", ".vagrant"))
        if not (data / WRITTEN).is_file():
            raise HostError(
                "Vagrant's Ansible provisioner has written no inventory yet",
                where=str(data / WRITTEN),
                action="`vagrant up`, or `vagrant provision` where the machines run already",
            )
        machines = written(data / WRITTEN)
        ways = ways_of(_ssh_config(folder))
        path = ctx.state.hosts / "vagrant.yml"
        base.private_folder(ctx.state.root)
        base.private_folder(ctx.state.hosts)
        known = _known(path)
        described = {one.name: _described(one, ways, data, known) for one in machines}
        write_atomically(path, yaml.safe_dump(inventory_of(machines, described), sort_keys=False), 0o600)
        return path


def vagrantfile(folder: Path) -> Path:
    """The Vagrantfile of a folder, or of one above it, as Vagrant looks for it."""
    folder = Path(os.environ.get("VAGRANT_CWD") or folder)
    name = os.environ.get("VAGRANT_VAGRANTFILE") or "Vagrantfile"
    found = next((path for each in (folder, *folder.parents) if (path := each / name).is_file()), None)
    if found is None:
        raise UsageError(
            f"there is no {name} in {folder} or above it",
            action="put slipway.yaml beside it, or set VAGRANT_CWD to its folder",
        )
    return found


def written(path: Path) -> tuple[Machine, ...]:
    """The machines of Vagrant's own inventory that are in one of slipway's groups. Ansible reads it."""
    program = Path(sys.executable).parent / "ansible-inventory"
    listed = json.loads(process.run([program, "--inventory", path, "--list"], timeout=SECONDS).stdout)
    hostvars = listed.get("_meta", {}).get("hostvars", {})
    groups: dict[str, list[str]] = {}
    for group in GROUPS:
        for name in listed.get(group, {}).get("hosts", ()):
            groups.setdefault(name, []).append(group)
    return tuple(
        Machine(name, tuple(found), hostvars.get(name, {}).get("kubernetes_node_address"))
        for name, found in groups.items()
    )


def _ssh_config(folder: Path) -> str:
    action = "`vagrant up` makes or starts the machines; `vagrant status` says which run"
    try:
        return process.run(
            ["vagrant", "ssh-config"], cwd=folder, timeout=SECONDS, where="vagrant", action=action
        ).stdout
    except CommandError as error:
        raise HostError(
            "Vagrant does not say how its machines are reached",
            where=str(folder),
            tail=error.output,
            action=action,
        ) from error


def ways_of(text: str) -> dict[str, Way]:
    """How each machine is reached, from what `vagrant ssh-config` prints."""
    config = paramiko.SSHConfig.from_text(text)
    found = {}
    for name in config.get_hostnames() - {"*"}:
        of = config.lookup(name)
        key = str(of["identityfile"][0]).strip('"')
        found[name] = Way(str(of["hostname"]), int(of.get("port", 22)), str(of["user"]), key)
    return found


def _described(
    machine: Machine, ways: Mapping[str, Way], data: Path, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A machine as slipway's own inventory has it: at its address in the private network where it has one."""
    way = ways.get(machine.name)
    if way is None:
        raise HostError(
            "Vagrant has a machine in its inventory that it does not know how to reach",
            where=machine.name,
            action="`vagrant up`, so that all of them run",
        )
    address = machine.address
    identity = _identity(data, machine.name)
    before = known.get(machine.name, {})
    same = identity != "" and before.get("vagrant_id") == identity
    return {
        "ansible_host": address or way.address,
        "ansible_port": 22 if address else way.port,
        "ansible_user": way.user,
        "ansible_ssh_private_key_file": way.key,
        "slipway_host_key": before["slipway_host_key"] if same else _shown(machine.name, way),
        "vagrant_id": identity,
        **({"kubernetes_node_address": address} if address else {}),
    }


def _identity(data: Path, name: str) -> str:
    """What the provider calls this very machine; another one made in its place has another."""
    found = sorted((data / "machines" / name).glob("*/id"))
    return found[0].read_text(encoding="utf-8").strip() if found else ""


def _shown(name: str, way: Way) -> str:
    """The key that a machine shows where Vagrant reaches it."""
    asked = process.run(
        ["ssh-keyscan", "-t", "ed25519", "-T", "20", "-p", str(way.port), way.address],
        timeout=60,
        check=False,
    )
    for line in asked.stdout.splitlines():
        _, _, key = line.partition(" ")
        if known_hosts.public_key(key) is not None:
            return key
    raise HostError(
        f"no SSH answers at {way.address}:{way.port}, where Vagrant reaches it",
        where=name,
        tail=asked.stderr,
        action="`vagrant status` says whether it runs, `vagrant reload` starts it anew",
    )


def _known(path: Path) -> dict[str, Mapping[str, Any]]:
    """What was written of each machine before."""
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(_hosts(held))
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError):
        return {}  # the machines are looked at anew


def _hosts(inventory: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for group in inventory["all"]["children"].values():
        yield from group["hosts"].items()


def inventory_of(machines: tuple[Machine, ...], described: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An inventory of these machines in their groups."""
    children: dict[str, Any] = {}
    for machine in machines:
        for group in machine.groups:
            children.setdefault(group, {"hosts": {}})["hosts"][machine.name] = dict(described[machine.name])
    return {"all": {"children": children}}
