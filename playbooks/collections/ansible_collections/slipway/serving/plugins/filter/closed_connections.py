"""Ansible filter: in words, which ports of other hosts are not reached, and what opens them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.slipway.serving.plugins.module_utils.firewalls import opening

DOCUMENTATION = r"""
name: closed_connections
short_description: What opens the ports that module connections did not reach
description: Names the firewall of the host that is not reached, as far as its facts tell one.
positional: host, address, facts
options:
  _input:
    description: C(closed) or C(silent) of module connections.
    type: list
    elements: dict
    required: true
  host: {description: Name of the host that asked., type: str, required: true}
  address: {description: Its address., type: str, required: true}
  facts: {description: Host to its facts., type: dict, required: true}
author: [slipway]
"""

EXAMPLES = r"""
- name: See that ports are open
  ansible.builtin.assert:
    that: tried.closed | length == 0
    fail_msg: "{{ tried.closed | slipway.serving.closed_connections('w1', '10.0.0.3', {}) | join('\n') }}"
"""

RETURN = r"""
_value:
  description: One sentence per port.
  type: list
  elements: str
"""


def closed_connections(
    tried: Iterable[Mapping[str, str]], host: str, address: str, facts: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """One sentence per port that is not reached, with what opens it."""
    out = []
    for each in tried:
        on = facts.get(each["host"], {}).get("slipway_host", {}).get("firewalls", {})
        source = address.partition(",")[0]
        commands = [f"{name} is on there: {opening(name, source, each['port'])}" for name in on]
        between = "no firewall is on there, so it is one between them, as a cloud's security group"
        place = f"{each['port']} of {each['host']} ({each['address']})"
        out.append(f"{host} does not reach {place}: {each['why']}; {'; '.join(commands) or between}")
    return out


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"closed_connections": closed_connections}
