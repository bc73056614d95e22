"""Ansible filter: which interfaces of a host a new bridge's network would clash with."""

from __future__ import annotations

import ipaddress
from typing import Any

DOCUMENTATION = r"""
name: clashing_interfaces
short_description: Interfaces of a host that a bridge's network overlaps
description: >-
  A bridge that takes addresses of a network the host is in already cuts the host off from it.
positional: facts, bridge
options:
  _input:
    description: >-
      Address of the bridge with its prefix, as 10.79.0.1/24; C(auto) and C(none) clash with nothing.
    type: str
    required: true
  facts: {description: "Ansible's facts of the host, with subset C(network).", type: dict, required: true}
  bridge: {description: "Name of the bridge; what it has itself does not count.", type: str, required: true}
author: [slipway]
"""

EXAMPLES = r"""
- name: See that the bridge has a network of its own
  ansible.builtin.assert:
    that: "'10.79.0.1/24' | slipway.serving.clashing_interfaces(ansible_facts, 'lxdbr0') | length == 0"
"""

RETURN = r"""
_value:
  description: One sentence per interface, or one that the address is none.
  type: list
  elements: str
"""


def clashing_interfaces(address: str, facts: dict[str, Any], bridge: str) -> list[str]:
    """One sentence per interface whose network the bridge's overlaps, or one that the address is none."""
    if address in ("auto", "none"):
        return []
    try:
        wanted = ipaddress.IPv4Interface(address).network
    except ValueError:
        return [
            f"{address} is no address of a bridge; expected it with its prefix, as 10.79.0.1/24, auto or none"
        ]
    if wanted.prefixlen > 30:
        return [
            f"{address} has no room for containers; expected a prefix of at most 30, 10.79.0.1/24 for example"
        ]
    out = []
    for name in facts.get("interfaces", []):
        known = facts.get(name.replace("-", "_"), {})
        for entry in [known.get("ipv4", {}), *known.get("ipv4_secondaries", [])]:
            if name == bridge or "address" not in entry or "netmask" not in entry:
                continue
            theirs = ipaddress.IPv4Interface(f"{entry['address']}/{entry['netmask']}").network
            if theirs.overlaps(wanted):
                out.append(f"{wanted} overlaps {theirs}, the network of interface {name}; set it to another")
    return out


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"clashing_interfaces": clashing_interfaces}
