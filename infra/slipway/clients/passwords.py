"""Passwords of machines: in this process's memory alone, from an inventory."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.clients import ansible_inventory
from slipway.core.types import Host


@dataclass(frozen=True)
class Passwords:
    """What a machine wants to be told: login for SSH, become for sudo; None where it wants nothing."""

    login: str | None = None
    become: str | None = None


def of(host: Host) -> Passwords:
    """The passwords of a host. Raises UsageError when its inventory cannot be read any more."""
    if host.passwords is None:
        return Passwords()
    found = (each for each in ansible_inventory.machines(host.passwords) if each.name == host.name)
    machine = next(found, None)
    return Passwords(machine.password, machine.become_password) if machine else Passwords()
