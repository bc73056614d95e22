"""Ansible filter: which hosts have a firewall that keeps pods out, and what lets them in."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.serving.plugins.module_utils.firewalls import lets_in, opening

DOCUMENTATION = r"""
name: shut_out_pods
short_description: Firewalls that keep the pods of a cluster out
description: >-
  A pod reaches the API server, and another node's pod, from the pods' network. A firewall that does not let
  all of that network in keeps CoreDNS and every other pod from starting.
positional: networks
options:
  _input:
    description: >-
      Host to its facts, with C(slipway_host). A host that is a node already has shown that it works.
    type: dict
    required: true
  networks: {description: The pods' networks., type: list, elements: str, required: true}
author: [slipway]
"""

EXAMPLES = r"""
- name: See that pods are let in
  ansible.builtin.assert:
    that: >-
      {inventory_hostname: ansible_facts} | slipway.serving.shut_out_pods(['10.244.0.0/16']) | length == 0
"""

RETURN = r"""
_value:
  description: One sentence per host and firewall, with the command.
  type: list
  elements: str
"""


def shut_out_pods(hosts: dict[str, dict[str, Any]], networks: list[str]) -> list[str]:
    """One sentence per host and firewall that keeps pods out, with the command that lets them in."""
    out = []
    for host, facts in hosts.items():
        known = facts.get("slipway_host", {})
        for firewall, inside in known.get("firewalls", {}).items() if not known.get("joined", True) else ():
            shut = [network for network in networks if not lets_in(inside, network)]
            if shut:
                commands = "; ".join(opening(firewall, network) for network in shut)
                out.append(
                    f"{host}: {firewall} is on and does not let in pods ({', '.join(shut)}), which reach "
                    f"the API server and one another from there: {commands}"
                )
    return out


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"shut_out_pods": shut_out_pods}
