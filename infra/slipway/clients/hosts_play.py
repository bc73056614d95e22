"""A playbook on slipway's hosts, with the inventory that goes with them: its own, or the user's and more."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway.clients import ansible_inventory, ansible_play, passwords, written_inventory
from slipway.clients.ansible_play import Played
from slipway.core.errors import UsageError
from slipway.core.events import Emit, silent
from slipway.core.state import write_atomically
from slipway.core.types import Hosts


@dataclass(frozen=True)
class Given:
    """What slipway writes for a play, into `file`: variables of every host, and by group.

    known_hosts has the pinned keys.
    """

    file: Path
    known_hosts: Path
    variables: Mapping[str, object]
    by_group: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The variables that it sets."""
        return {*self.variables, *itertools.chain(*self.by_group.values())}


@dataclass(frozen=True)
class Asked:
    """How a playbook is run, in Ansible's words; check changes no host."""

    check: bool = False
    diff: bool = False
    tags: str = ""
    skip_tags: str = ""
    limit: str = ""


def play(
    playbook: Path, hosts: Hosts, given: Given, *, log: Path, asked: Asked, emit: Emit = silent
) -> Played:
    """Write the inventory and run a playbook on the hosts.

    Raises UsageError where the user's inventory sets what is given, else what ansible_play.play raises.
    """
    inventories, limit = [given.file], asked.limit
    extra: Mapping[str, object] = {}
    environment: Mapping[str, str] = {}
    if hosts.inventory is None:
        text = written_inventory.inventory(hosts, given.known_hosts, given.variables, given.by_group)
    else:
        machines = ansible_inventory.machines(hosts.inventory)
        _need_one_home(hosts.inventory, machines, given.names)
        text = written_inventory.addition(hosts, machines, given.known_hosts, given.variables, given.by_group)
        inventories.append(hosts.inventory)
        limit, extra = within(limit), written_inventory.OVER_THE_USERS
        environment = {**ansible_inventory.environment(hosts.inventory), **passwords.environment()}
    write_atomically(given.file, text, 0o600)
    return ansible_play.play(
        playbook,
        inventories,
        log,
        check=asked.check,
        diff=asked.diff,
        tags=asked.tags,
        skip_tags=asked.skip_tags,
        limit=limit,
        extra=extra,
        environment=environment,
        emit=emit,
    )


def within(limit: str) -> str:
    """Ansible's pattern for those of the hosts that are slipway's; an inventory may hold others."""
    if not limit:
        return written_inventory.GROUP
    return f"{limit}{',' if ',' in limit else ':'}&{written_inventory.GROUP}"


def _need_one_home(inventory: Path, machines: tuple[ansible_inventory.Machine, ...], names: set[str]) -> None:
    """Raise UsageError where the user's inventory sets what slipway sets as well."""
    twice = [f"{machine.name}: {name}" for machine in machines for name in sorted(names & machine.variables)]
    if twice:
        raise UsageError(
            f"the inventory sets a variable that slipway sets too: {twice[0]}",
            where=str(inventory),
            tail="\n".join(twice[1:]),
            action="take it out there; slipway.yaml has the settings that stand for such variables",
        )
