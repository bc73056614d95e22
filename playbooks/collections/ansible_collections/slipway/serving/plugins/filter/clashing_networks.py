"""Ansible filter: which of a cluster's networks the hosts' own network reaches into."""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.slipway.serving.plugins.module_utils.interfaces import addresses

DOCUMENTATION = r"""
name: clashing_networks
short_description: Networks of a cluster that overlap those of its hosts
description: >-
  Compares the networks that each host is in with the cluster's. Where two overlap, packets to a host go to a
  pod or a service, or the other way round.
positional: networks
options:
  _input:
    description: >-
      Host to its facts, with C(slipway_host). A host that is a node already keeps its networks and is left
      out, and so is one without facts.
    type: dict
    required: true
  networks:
    description: Variable to its network; several networks are separated by commas, as kubeadm takes them.
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: See that pods have a network of their own
  ansible.builtin.assert:
    that: >-
      {inventory_hostname: ansible_facts}
      | slipway.serving.clashing_networks({'pod_subnet': '10.244.0.0/16'}) | length == 0
"""

RETURN = r"""
_value:
  description: One sentence per host and network that overlap, and per value that is not a network.
  type: list
  elements: str
"""


def clashing_networks(hosts: dict[str, dict[str, Any]], networks: dict[str, str]) -> list[str]:
    """One sentence per host and network that overlap, and per value that is not a network.

    hosts: host to its facts. networks: variable to one network or several, separated by commas.
    """
    own = {host: found for host, facts in hosts.items() if (found := _own_networks(facts))}
    out = []
    for variable, value in networks.items():
        for each in str(value).split(","):
            try:
                network = ipaddress.ip_network(each.strip())
            except ValueError:
                out.append(f"{variable} is {value}; expected a network, 10.244.0.0/16 for example")
                continue
            out += [
                f"{variable}: {network} overlaps {theirs}, the network of host {host}; set it to another"
                for host, found in own.items()
                for theirs in found
                if theirs.version == network.version and theirs.overlaps(network)
            ]
    return out


def _own_networks(facts: dict[str, Any]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The networks a host is in; none if it is a node already, or not known."""
    if facts.get("slipway_host", {}).get("joined", True):
        return []
    return list(dict.fromkeys(each.at.network for each in addresses(facts)))


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"clashing_networks": clashing_networks}
