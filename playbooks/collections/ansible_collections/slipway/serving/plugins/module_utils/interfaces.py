"""The addresses of a host's interfaces, as Ansible's facts tell them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What engines on a host make for their own pods, containers and machines: no other host is in such a network
_INNER = re.compile(
    r"(lo$|docker\d|br-[0-9a-f]{12}$|cni|cbr\d|flannel|cali|cilium|veth|virbr|lxcbr|lxdbr|podman|kube-|nodelocaldns|tunl)"
)


@dataclass(frozen=True)
class Address:
    """An address of an interface, with its network. mtu: of the interface, in bytes."""

    interface: str
    at: ipaddress.IPv4Interface | ipaddress.IPv6Interface
    mtu: int


def addresses(facts: Mapping[str, Any]) -> list[Address]:
    """The addresses that lead out of a host: no loopback, no link-local ones, none of its engines' bridges.

    facts: Ansible's, with subset network.
    """
    out = []
    for name in sorted(facts.get("interfaces", [])):
        known = facts.get(re.sub("[-:]", "_", name), {})
        if _INNER.match(name) or not known.get("active", True):
            continue
        entries = [known.get("ipv4", {}), *known.get("ipv4_secondaries", []), *known.get("ipv6", [])]
        for entry in entries:
            width = entry.get("prefix") or entry.get("netmask")
            if "address" in entry and width:
                at = ipaddress.ip_interface(f"{entry['address']}/{width}")
                if not (at.ip.is_link_local or at.ip.is_loopback):
                    out.append(Address(name, at, int(known.get("mtu", 1500))))
    return out
