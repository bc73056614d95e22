"""A lab's network on this machine: a bridge, one cable and namespace per host, and its firewall rules.

Everything is either there or made; asking twice changes nothing. Rules are pure lists of words.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.backends.labs import Lab, LabHost
from infra.core import process
from infra.core.errors import EnvironmentFault

POOL = ipaddress.IPv4Network("10.77.0.0/16")
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True)
class Taken:
    """A network that something on this machine uses already."""

    network: ipaddress.IPv4Network
    by: str


def networks_in_use(addresses: list[dict[str, Any]], routes: list[dict[str, Any]]) -> list[Taken]:
    """The networks in `ip -json address` and `ip -json route show table all`, default routes aside."""
    found: list[Taken] = []
    for link in addresses:
        for entry in link.get("addr_info", ()):
            if entry.get("family") == "inet" and "local" in entry:
                network = ipaddress.IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False)
                found.append(Taken(network, f"interface {link.get('ifname', '?')}"))
    for route in routes:
        where = route.get("dst", "default")
        if where == "default" or ":" in where:
            continue
        with suppress(ValueError):
            network = ipaddress.IPv4Network(where, strict=False)
            if network.prefixlen > 0:
                found.append(Taken(network, f"a route through {route.get('dev', 'nothing')}"))
    return found


def choose_subnet(wanted: str | None, taken: Iterable[Taken]) -> ipaddress.IPv4Network:
    """The wanted subnet, or the first free /24 of the pool. Raises EnvironmentFault naming who uses it."""
    used = list(taken)
    if wanted is not None:
        network = ipaddress.IPv4Network(wanted)
        for other in used:
            if other.network.overlaps(network):
                raise EnvironmentFault(
                    f"subnet {network} is in use by {other.by} ({other.network})",
                    action="choose another hosts.subnet, or leave it unset for the first free one",
                )
        return network
    for network in POOL.subnets(new_prefix=24):
        if not any(other.network.overlaps(network) for other in used):
            return network
    raise EnvironmentFault(f"no free /24 is left in {POOL}", action="set hosts.subnet in slipway.yaml")


def in_use() -> list[Taken]:
    """The networks this machine uses now."""
    addresses = json.loads(process.run(["ip", "-json", "-4", "address"]).stdout or "[]")
    routes = json.loads(process.run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]")
    return networks_in_use(addresses, routes)


def default_mtu() -> int:
    """The MTU of the default route's interface; 1500 without one."""
    routes = json.loads(process.run(["ip", "-json", "-4", "route", "show", "default"]).stdout or "[]")
    for route in routes:
        with suppress(OSError, ValueError):
            return min(9000, int(Path(f"/sys/class/net/{route['dev']}/mtu").read_text()))
    return 1500


def mac(address: str) -> str:
    """A fixed, locally administered MAC: a host keeps its neighbours' ARP entries through a reboot."""
    return "02:77:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def forward_rules(lab: Lab, reachable: Iterable[str]) -> list[list[str]]:
    """The lab's forward chain, rule by rule.

    Frames between hosts of the lab pass first: with br_netfilter they come by here too, and pod
    addresses would be refused. Then the private addresses the site needs; other private networks are
    refused, because behind a gateway that answers every TCP connect a probe for a free address or
    port would find everything taken, and a lab has no business in its owner's network.
    """
    bridge = lab.bridge
    return [
        ["-i", bridge, "-m", "physdev", "--physdev-is-bridged", "-j", "ACCEPT"],
        *(["-d", f"{address}/32", "-i", bridge, "-j", "ACCEPT"] for address in reachable),
        ["-d", lab.subnet, "-i", bridge, "-j", "ACCEPT"],
        *(["-d", network, "-i", bridge, "-j", "REJECT"] for network in PRIVATE),
        ["-i", bridge, "-j", "ACCEPT"],
        ["-o", bridge, "-j", "ACCEPT"],
    ]


def chains(lab: Lab, reachable: Iterable[str]) -> list[tuple[str, str, str, list[list[str]]]]:
    """Table, builtin chain, own chain and its rules, for each chain of the lab."""
    return [
        ("filter", "FORWARD", lab.forward_chain, forward_rules(lab, reachable)),
        (
            "nat",
            "POSTROUTING",
            lab.nat_chain,
            [["-s", lab.subnet, "!", "-o", lab.bridge, "-j", "MASQUERADE"]],
        ),
    ]


def restore_input(table: str, chain: str, rules: list[list[str]]) -> str:
    """One chain for `iptables-restore --noflush`: made or emptied, then filled, in one step."""
    lines = [f"*{table}", f":{chain} - [0:0]", f"-F {chain}"]
    lines += [f"-A {chain} {' '.join(rule)}" for rule in rules]
    return "\n".join([*lines, "COMMIT", ""])


def up(lab: Lab, reachable: Iterable[str]) -> int:
    """Make the lab's bridge, firewall chains and forwarding; how many of them were missing or different."""
    made = _bridge(lab)
    for table, builtin, chain, rules in chains(lab, reachable):
        made += _chain(table, builtin, chain, rules)
    if IP_FORWARD.read_text().strip() != "1":
        IP_FORWARD.write_text("1\n")
        made += 1
    return made


def _bridge(lab: Lab) -> int:
    made = 0
    if not link_exists(lab.bridge):
        # a MAC of its own: else the bridge takes that of whatever host comes or goes
        process.run(["ip", "link", "add", lab.bridge, "address", mac(lab.gateway), "type", "bridge"])
        made = 1
    prefix = ipaddress.IPv4Network(lab.subnet).prefixlen
    process.run(["ip", "link", "set", lab.bridge, "mtu", str(lab.mtu), "up"])
    process.run(["ip", "address", "replace", f"{lab.gateway}/{prefix}", "dev", lab.bridge])
    return made


def _chain(table: str, builtin: str, chain: str, rules: list[list[str]]) -> int:
    shown = iptables(table, "-S", chain, check=False)
    present = [line for line in shown.stdout.splitlines() if line.startswith("-A ")]
    jump = iptables(table, "-C", builtin, "-j", chain, check=False).returncode == 0
    # iptables prints REJECT with its default reason; a chain is compared without it
    wanted = [f"-A {chain} {' '.join(rule)}" for rule in rules]
    if jump and [line.replace(" --reject-with icmp-port-unreachable", "") for line in present] == wanted:
        return 0
    process.run(
        ["iptables-restore", "--wait", "10", "--noflush"],
        input=restore_input(table, chain, rules),
        where=chain,
    )
    if not jump:
        iptables(table, "-I", builtin, "1", "-j", chain)
    return 1


def attached(lab: Lab, host: LabHost) -> bool:
    """Whether a host's namespace and cable are whole; a cable pulled from the bridge is put back."""
    inside = process.run(["ip", "-n", host.netns, "-4", "address", "show", "dev", "eth0"], check=False)
    route = process.run(["ip", "-n", host.netns, "route", "show", "default"], check=False)
    if f"inet {host.address}/" not in inside.stdout or f"via {lab.gateway} " not in route.stdout:
        return False
    if not Path(f"/sys/class/net/{lab.bridge}/brif/{host.interface}").exists():
        process.run(["ip", "link", "set", host.interface, "master", lab.bridge, "up"])
    return True


def attach(lab: Lab, host: LabHost) -> None:
    """Make a host's network namespace and cable unless they are whole, from the start."""
    if attached(lab, host):
        return
    prefix = ipaddress.IPv4Network(lab.subnet).prefixlen
    detach(host)
    process.run(["ip", "netns", "add", host.netns])
    inner = ["name", "eth0", "address", mac(host.address), "mtu", str(lab.mtu), "netns", host.netns]
    process.run(["ip", "link", "add", host.interface, "mtu", str(lab.mtu), "type", "veth", "peer", *inner])
    process.run(["ip", "link", "set", host.interface, "master", lab.bridge, "up"])
    process.run(["ip", "-n", host.netns, "link", "set", "lo", "up"])
    process.run(["ip", "-n", host.netns, "address", "add", f"{host.address}/{prefix}", "dev", "eth0"])
    process.run(["ip", "-n", host.netns, "link", "set", "eth0", "up"])
    process.run(["ip", "-n", host.netns, "route", "add", "default", "via", lab.gateway])


def detach(host: LabHost) -> list[str]:
    """Remove a host's cable and namespace; what was there."""
    removed: list[str] = []
    if link_exists(host.interface):
        process.run(["ip", "link", "delete", host.interface])
        removed.append(f"interface {host.interface}")
    if Path(f"/run/netns/{host.netns}").exists():
        process.run(["ip", "netns", "delete", host.netns])
        removed.append(f"network namespace {host.netns}")
    return removed


def down(lab: Lab) -> list[str]:
    """Remove the lab's chains and bridge; what was there. Forwarding is the caller's, it is shared."""
    removed: list[str] = []
    for table, builtin, chain, _ in chains(lab, ()):
        while iptables(table, "-D", builtin, "-j", chain, check=False).returncode == 0:
            pass
        if iptables(table, "-S", chain, check=False).returncode == 0:
            iptables(table, "-F", chain)
            iptables(table, "-X", chain)
            removed.append(f"firewall chain {chain}")
    if link_exists(lab.bridge):
        process.run(["ip", "link", "delete", lab.bridge])
        removed.append(f"bridge {lab.bridge}")
    return removed


def link_exists(name: str) -> bool:
    return Path(f"/sys/class/net/{name}").exists()


def iptables(table: str, *words: str, check: bool = True) -> process.Completed:
    return process.run(["iptables", "--wait", "10", "-t", table, *words], check=check)
