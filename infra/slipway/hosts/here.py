"""Cloud `here`: machines on this computer, made by Pulumi as a cloud's are, to try it without an account.

In: the folder that the lab is kept in, how many workers. Out: addresses, keys. The provider runs in a process
of Pulumi's; what it makes is what the backend nspawn makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult
from slipway_stacks.machine_inputs import MachineInputs

from slipway.core.context import Context
from slipway.core.schema import HostsSettings, Settings
from slipway.core.state import State
from slipway.core.types import Hosts
from slipway.hosts import base
from slipway.hosts.nspawn.backend import Nspawn


class Named(Protocol):
    """A machine to make."""

    @property
    def name(self) -> str: ...


class Wanted(Protocol):
    """What slipway_stacks asks a cloud for, as far as it is read here."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> MachineInputs: ...
    @property
    def machines(self) -> Sequence[Named]: ...
    def child(self) -> pulumi.ResourceOptions: ...


class LabProvider(ResourceProvider):
    """Makes, changes and removes the hosts of one lab."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        """The hosts, made or found; the folder is what the lab is known by."""
        return CreateResult(props["folder"], {**props, "reached": _up(props)})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """More or fewer workers change it; in another folder it is another one."""
        moved = ["folder"] if _olds["folder"] != _news["folder"] else []
        return DiffResult(
            changes=bool(moved) or _olds["workers"] != _news["workers"],
            replaces=moved,
            delete_before_replace=True,
        )

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """With as many workers as are wanted now."""
        return UpdateResult({**_news, "reached": _up(_news)})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """All that the lab has made on this computer."""
        Nspawn().down(_context(Path(_props["folder"])))


class Lab(Resource):
    """The hosts of one lab. reached: by name, the variables that Ansible reaches each with."""

    reached: pulumi.Output[dict[str, dict[str, Any]]]

    def __init__(self, name: str, folder: str, workers: int, opts: pulumi.ResourceOptions) -> None:
        super().__init__(LabProvider(), name, {"folder": folder, "workers": workers, "reached": None}, opts)


def make(wanted: Wanted) -> Mapping[str, Mapping[str, Any]]:
    """See slipway_stacks.clouds.Make. Keys are the lab's own, and no user-data is read."""
    lab = Lab(f"{wanted.name}-lab", str(wanted.inputs.folder), wanted.inputs.workers, wanted.child())
    names = ("ansible_host", "ansible_user", "ansible_ssh_private_key_file", "slipway_host_key")
    return {
        machine.name: {name: lab.reached[machine.name][name] for name in names} for machine in wanted.machines
    }


def _up(props: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    ctx, settings = (
        _context(Path(props["folder"])),
        Settings(hosts=HostsSettings(workers=int(props["workers"]))),
    )
    return _reached(Nspawn().up(ctx, settings).value, base.identity(ctx.state))


def _context(folder: Path) -> Context:
    return Context(State(folder), folder / "run", folder)


def _reached(hosts: Hosts, login: Path) -> dict[str, dict[str, Any]]:
    return {
        host.name: {
            "ansible_host": host.address,
            "ansible_user": host.user,
            "ansible_ssh_private_key_file": str(login),
            "slipway_host_key": host.host_key,
        }
        for host in hosts.hosts
    }
