"""Ansible filter: under which address each host is known to the others, and to the controller."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.serving.plugins.module_utils.interfaces import Address, addresses

DOCUMENTATION = r"""
name: node_addresses
short_description: The address that hosts use among themselves, and the one that the controller uses
description:
  - An address that the inventory sets (C(kubernetes_node_address)) wins, then the one a node has joined with,
    then C(ansible_host) where the host has that address itself, then that of the default route.
  - Where two hosts would have the same one, as behind a NAT of their own each, it is that of the one network
    that all hosts have addresses of their own in.
  - Addresses are of the family of C(control_plane_pod_subnet); of two networks, one of each, in that order.
    When it is not set, they are IPv4 as far as every host has one.
options:
  _input:
    description: >-
      All hosts that talk to one another, with their variables, C(ansible_facts) among them; those without
      facts are left out.
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Tell what the others know this host by
  ansible.builtin.debug:
    msg: "{{ (dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars)))
      | slipway.serving.node_addresses)[inventory_hostname].address }}"
"""

RETURN = r"""
_value:
  description: >-
    Host to C(address), two with a comma between them in a cluster of both families; C(external), the address
    or name that the controller reaches it at; C(mtu) of the interface with the address; and C(problems),
    sentences.
  type: dict
"""

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
SET = "set kubernetes_node_address for each host in the inventory"


@dataclass
class Host:
    """What is known of one host, and what becomes of it."""

    name: str
    variables: Mapping[str, Any]
    own: list[Address]
    chosen: list[IP] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def facts(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.variables["ansible_facts"]
        return found

    @property
    def reached(self) -> str:
        """The address or name that the controller connects to, empty if that is this machine or not told."""
        if str(self.variables.get("ansible_connection", "ssh")) == "local":
            return ""
        named = str(self.variables.get("ansible_host") or "")
        # a name with a dot is one for everybody; one without may be an alias of ssh's configuration
        return named or (self.name if "." in self.name or _address(self.name) else "")

    @property
    def forwarded(self) -> bool:
        """Whether a port of the controller's own leads to the host."""
        address = _address(self.reached)
        return self.reached == "localhost" or (address is not None and address.is_loopback)

    def has(self, address: IP) -> bool:
        return any(each.at.ip == address for each in self.own)

    def of(self, version: int) -> list[Address]:
        return [each for each in self.own if each.at.version == version]


def node_addresses(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Host to address, external, mtu and problems; see the documentation above."""
    known = [
        Host(name, variables, addresses(variables["ansible_facts"]))
        for name, variables in hosts.items()
        if "interfaces" in variables.get("ansible_facts", {})
    ]
    open_ = [host for host in known if not _told(host)]
    for version in _families(known):
        _choose(known, open_, version)
    _see_that_they_differ(known)
    return {host.name: _result(host) for host in known}


def _told(host: Host) -> bool:
    """Take what the inventory sets, else what the node has joined with; whether there was either."""
    given = str(host.variables.get("kubernetes_node_address") or "")
    joined = str(host.facts.get("slipway_host", {}).get("node_address") or "")
    there = ", ".join(str(each.at.ip) for each in host.own) or "none"
    for word in (given or joined).split(","):
        address = _address(word.strip())
        if address is not None:
            host.chosen.append(address)
        if given and (address is None or not host.has(address)):
            host.problems.append(
                f"kubernetes_node_address of {host.name} is {given}; expected an address that it has: {there}"
            )
        elif address is not None and not host.has(address):
            host.problems.append(
                f"{host.name} joined its cluster as {address}, which it does not have any more, but {there}: "
                "give it that address again, or take it out of the cluster (reset.yml) and let it join anew"
            )
    return bool(given or joined)


def _families(known: list[Host]) -> list[int]:
    """4, 6 or both, in the order of the pods' networks."""
    asked = next((text for host in known if (text := host.variables.get("control_plane_pod_subnet"))), None)
    if asked:
        # what is no network is told where it is used
        return list(dict.fromkeys(6 if ":" in each else 4 for each in str(asked).split(",")))
    return [4] if all(host.of(4) for host in known) else [6] if all(host.of(6) for host in known) else [4]


def _choose(known: list[Host], open_: list[Host], version: int) -> None:
    """Find an address of one family for each host that nobody has told one."""
    usual = {host.name: _usual(host, version, alone=len(known) == 1) for host in open_}
    # a host's usual address is no good if another one has it too, whether it uses it or not
    times = Counter(address for host in known for address in {each.at.ip for each in host.own})
    shared = sorted(
        {str(address) for address in usual.values() if address is not None and times[address] > 1}
    )
    lost = [host for host in open_ if str(usual[host.name] or "") in ("", *shared)]
    settled = {each for host in known for each in host.chosen} | {
        address for host in open_ if host not in lost and (address := usual[host.name])
    }
    networks = _common(known, version, settled) if lost else {}
    for host in open_:
        address = usual[host.name]
        if not lost:
            assert address is not None  # one without is lost
            host.chosen.append(address)
        elif len(networks) == 1:
            host.chosen.append(next(iter(networks.values()))[host.name])
        else:
            host.problems.append(_why_none(host, lost, shared, networks, version))


def _usual(host: Host, version: int, *, alone: bool) -> IP | None:
    """The address of a host for itself: where it is reached, else that of its default route."""
    reached = _address(host.reached)
    if reached is not None and reached.version == version and host.has(reached):
        return reached
    route = _address(str(host.facts.get(f"default_ipv{version}", {}).get("address", "")))
    there = host.of(version)
    beside = [each.at.ip for each in there if route is None or route not in each.at.network]
    if alone and host.forwarded and len(beside) == 1:
        return beside[0]  # nobody gets through the NAT that the port is forwarded through
    if route is None and len(there) == 1:
        return there[0].at.ip
    return route if route is not None and host.has(route) else None


def _common(known: list[Host], version: int, settled: set[IP]) -> dict[str, dict[str, IP]]:
    """The networks that all hosts are in, each with an address of its own: network -> host -> address.

    settled: addresses of hosts that need no choice; a network with one of them goes before others.
    """
    found: dict[str, dict[str, IP]] = {}
    for host in known:
        for each in host.of(version):
            found.setdefault(str(each.at.network), {}).setdefault(host.name, each.at.ip)
    common = {
        network: there
        for network, there in found.items()
        if len(there) == len(known) == len(set(there.values()))
    }
    return {name: there for name, there in common.items() if settled & set(there.values())} or common


def _why_none(
    host: Host, lost: list[Host], shared: list[str], networks: dict[str, dict[str, IP]], version: int
) -> str:
    whose = ", ".join(each.name for each in lost)
    why = (
        f"{whose} have {', '.join(shared)} alike, as behind a NAT of their own each"
        if shared
        else f"{whose}: no default route over IPv{version}, and so no address that is meant"
    )
    if not networks:
        return f"{why}; no other network has all hosts in it: put them into one, or {SET}"
    choice = " or ".join(f"{network} ({there[host.name]})" for network, there in sorted(networks.items()))
    return f"{why}; which network do hosts use among themselves, {choice}? {SET}"


def _see_that_they_differ(known: list[Host]) -> None:
    for host in known:
        for address in host.chosen:
            others = [each.name for each in known if each is not host and address in each.chosen]
            if others:
                host.problems.append(
                    f"{host.name} and {', '.join(others)} all have the address {address}; {SET}"
                )


def _result(host: Host) -> dict[str, Any]:
    mtus = [each.mtu for each in host.own if each.at.ip in host.chosen]
    given = str(host.variables.get("host_external_address") or "")
    named = given or ("" if host.forwarded else host.reached)
    return {
        "address": ",".join(map(str, host.chosen)),
        "external": str(_address(named) or named or next(iter(host.chosen), "")),
        "mtu": min(mtus, default=1500),
        "problems": host.problems,
    }


def _address(text: str) -> IP | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"node_addresses": node_addresses}
