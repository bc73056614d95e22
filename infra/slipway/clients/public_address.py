"""The address that this machine is seen with from outside, asked of somebody outside."""

from __future__ import annotations

import ipaddress
from http.client import HTTPException
from urllib.request import urlopen

from slipway.core.errors import EnvironmentFault

ASKED = "https://checkip.amazonaws.com"
SECONDS = 5.0


def seen() -> str:
    """The IPv4 address. Raises EnvironmentFault where nobody tells, or what is told is none."""
    try:
        with urlopen(ASKED, timeout=SECONDS) as answer:
            told = answer.read(64).decode("ascii").strip()
        return str(ipaddress.IPv4Address(told))
    except (OSError, HTTPException, ValueError) as error:
        raise EnvironmentFault(
            f"the address that this machine is seen with cannot be found out: {error}",
            where=ASKED,
            action="set hosts.allow to the networks that may reach the machines, e.g. [203.0.113.7/32]",
        ) from error
