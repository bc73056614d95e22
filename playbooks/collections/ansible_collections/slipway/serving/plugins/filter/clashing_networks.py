"""Ansible filter: which of a cluster's networks the hosts' own network reaches into."""

from __future__ import annotations

import ipaddress
from typing import Any

DOCUMENTATION = r"""
name: clashing_networks
short_description: Networks of a cluster that overlap those of its hosts
description: >-
  Compares each host's own network with the cluster's. Where two overlap, packets to a host go to a pod or a
  service, or the other way round.
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
    own = {host: network for host, facts in hosts.items() if (network := _own_network(facts))}
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
                for host, theirs in own.items()
                if theirs.overlaps(network)
            ]
    return out


def _own_network(facts: dict[str, Any]) -> ipaddress.IPv4Network | None:
    """The network of a host's default route; None if the host is a node already, or not known."""
    route = facts.get("default_ipv4", {})
    if facts.get("slipway_host", {}).get("joined", True) or "address" not in route:
        return None
    return ipaddress.IPv4Interface(f"{route['address']}/{route['prefix']}").network


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"clashing_networks": clashing_networks}
