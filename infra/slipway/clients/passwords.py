"""Passwords of machines: in this process's memory alone, from an inventory."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.core.types import Host


@dataclass(frozen=True)
class Passwords:
    """What a machine wants to be told: login for SSH, become for sudo; None where it wants nothing."""

    login: str | None = None
    become: str | None = None


def of(host: Host) -> Passwords:
    """The passwords of a host."""
    del host
    return Passwords()
