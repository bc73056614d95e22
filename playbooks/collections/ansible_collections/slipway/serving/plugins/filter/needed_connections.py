"""Ansible filter: which ports of which other hosts a host must reach."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

DOCUMENTATION = r"""
name: needed_connections
short_description: Ports of other hosts that a host must reach
description: >-
  Nodes and the host that builds images, by the groups they are in. docs/cluster.md has the same as a table.
positional: groups, addresses, joined
options:
  _input:
    description: Name of the host.
    type: str
    required: true
  groups: {description: Ansible's groups., type: dict, required: true}
  addresses: {description: "Host to what filter node_addresses says of it.", type: dict, required: true}
  joined:
    description: Nodes of the cluster; their VXLAN device takes what it is sent and says nothing.
    type: list
    elements: str
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Try the ports between hosts
  slipway.serving.connections:
    targets: "{{ inventory_hostname | slipway.serving.needed_connections(groups, addresses, []) }}"
"""

RETURN = r"""
_value:
  description: Each with C(host), C(address) and C(port), as 6443/tcp.
  type: list
  elements: dict
"""

NODES = ("control_plane", "worker")
VXLAN = "8472/udp"
# (from, to, ports): groups of the inventory
PORTS = (
    (NODES, ("control_plane",), ("6443/tcp",)),
    (NODES, NODES, ("10250/tcp", VXLAN)),
    (NODES, ("registry",), ("5001/tcp",)),
    (("docker",), ("registry",), ("5000/tcp",)),
)


def needed_connections(
    host: str,
    groups: Mapping[str, Collection[str]],
    addresses: Mapping[str, Mapping[str, Any]],
    joined: Collection[str],
) -> list[dict[str, str]]:
    """What a host must reach of others, each with host, address and port; see the documentation above."""
    out: list[dict[str, str]] = []
    for origins, destinations, ports in PORTS:
        if not any(host in groups.get(group, ()) for group in origins):
            continue
        for other in dict.fromkeys(name for group in destinations for name in groups.get(group, ())):
            address = str(addresses.get(other, {}).get("address", "")).partition(",")[0]
            if other == host or not address:
                continue
            wanted = [port for port in ports if not (port == VXLAN and other in joined)]
            out += [{"host": other, "address": address, "port": port} for port in wanted]
    return out


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"needed_connections": needed_connections}
