"""A lab's network on this machine: a bridge, one cable and namespace per host, and its firewall rules.

What is missing is made, so asking twice changes nothing. Rules are pure lists of words.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.core import process
from slipway.core.errors import EnvironmentFault
from slipway.hosts.nspawn.labs import PREFIX, Lab, LabHost

POOL = ipaddress.IPv4Network("10.77.0.0/16")
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# Kinds of interfaces, by `ip -details link`, whose makers need forwarding: engines, virtual machines, VPNs.
FORWARDERS = frozenset(
    {"bridge", "gre", "ipip", "macvlan", "ovs", "sit", "tun", "vti", "vxlan", "wireguard", "xfrm"}
)

_BEGUN = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
_ANY_LAB = f"{PREFIX}-+"


@dataclass(frozen=True)
class Opening:
    """Something private, or of this machine, that a lab may reach.

    network: "192.168.1.0/24" or "192.168.1.7/32". protocol "tcp" or "udp", and a port; else all of it.
    """

    network: str
    protocol: str = ""
    port: int = 0

    def match(self) -> tuple[str, ...]:
        """The network, then iptables' words for the rest."""
        if not self.protocol:
            return (self.network,)
        return self.network, "-p", self.protocol, "-m", self.protocol, "--dport", str(self.port)


@dataclass(frozen=True)
class Taken:
    """A network that something on this machine uses already."""

    network: ipaddress.IPv4Network
    by: str


def networks_in_use(links: list[dict[str, Any]], routes: list[dict[str, Any]]) -> list[Taken]:
    """The networks in `ip -json address` and `ip -json route show table all`, default routes aside."""
    found: list[Taken] = []
    for link in links:
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
    whole = "".join(f": {other.by} has {other.network}" for other in used if POOL.subnet_of(other.network))
    raise EnvironmentFault(f"no free /24 is left in {POOL}{whole}", action="set hosts.subnet in slipway.yaml")


def in_use() -> list[Taken]:
    """The networks this machine uses now."""
    routes = json.loads(process.run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]")
    return networks_in_use(addresses(), routes)


def addresses() -> list[dict[str, Any]]:
    """`ip -json address` of this machine, IPv4."""
    found: list[dict[str, Any]] = json.loads(process.run(["ip", "-json", "-4", "address"]).stdout or "[]")
    return found


def default_mtu() -> int:
    """The smallest MTU of the interfaces that the default route leads through; 1500 if there is none."""
    routes = json.loads(process.run(["ip", "-json", "-4", "route", "show", "default"]).stdout or "[]")
    found = [9000]
    for device in default_devices(routes):
        with suppress(OSError, ValueError):
            found.append(int(Path(f"/sys/class/net/{device}/mtu").read_text()))
    return min(found) if len(found) > 1 else 1500


def default_devices(routes: list[dict[str, Any]]) -> tuple[str, ...]:
    """The interfaces of the preferred default route in `ip -json route show default`.

    A multipath one has several, and one that leads nowhere, as a blackhole, has none.
    """
    for route in routes:
        hops = [route, *route.get("nexthops", ())]
        if devices := tuple(hop["dev"] for hop in hops if "dev" in hop):
            return devices
    return ()


def mac(address: str) -> str:
    """A fixed, locally administered MAC: a host keeps its neighbours' ARP entries through a reboot."""
    return "02:77:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def refused(links: list[dict[str, Any]]) -> tuple[str, ...]:
    """The networks a lab is kept from: private and link-local ones, and those this machine is in itself.

    links: `ip -json address`. A cloud's metadata address, which gives away the machine's own rights,
    is link-local; carriers and overlay networks use 100.64.0.0/10. The owner's network need not be a
    private one.
    """
    fixed = [ipaddress.IPv4Network(network) for network in PRIVATE]
    own = [
        taken.network
        for taken in networks_in_use([link for link in links if not is_of_a_lab(link.get("ifname", ""))], [])
        if not taken.network.is_loopback and not any(taken.network.subnet_of(one) for one in fixed)
    ]
    return tuple(map(str, [*fixed, *sorted(set(own))]))


def is_of_a_lab(interface: str) -> bool:
    """Whether an interface's name is one that slipway gives."""
    return interface.startswith(PREFIX)


@dataclass(frozen=True)
class Chain:
    """One chain of a lab. last: it is asked after all rules of the builtin chain, not before them."""

    table: str
    builtin: str
    name: str
    rules: tuple[tuple[str, ...], ...]
    last: bool = False

    @property
    def jump(self) -> str:
        """The rule of the builtin chain that asks this one, as `iptables-save` prints it."""
        return f"-A {self.builtin} -j {self.name}"


def chains(lab: Lab, openings: Iterable[Opening] = (), refuse: Iterable[str] = PRIVATE) -> tuple[Chain, ...]:
    """The lab's firewall.

    What is refused is refused twice. In table filter before any other rule is asked, with an answer; and in
    table security, which comes after filter: there no rule helps that an engine or the owner puts before
    the lab's, and no order of two labs' chains matters. Neither lets anything through but frames between
    hosts of the lab, so that no rule of the owner's is passed over. What is meant is let through after all
    other rules of filter: it passes where a policy is DROP, and not where the owner forbids it.
    """
    opened = tuple(opening.match() for opening in openings)
    forward, into = _forward_first(lab, opened, refuse), _input_first(lab, opened)
    return (
        Chain("security", "FORWARD", f"{lab.name}-forward-drop", _silent(forward)),
        Chain("security", "INPUT", f"{lab.name}-input-drop", _silent(into)),
        Chain("filter", "FORWARD", lab.forward_chain, forward),
        Chain("filter", "FORWARD", f"{lab.name}-forward-end", _forward_last(lab), last=True),
        Chain("filter", "INPUT", f"{lab.name}-input", into),
        Chain("filter", "INPUT", f"{lab.name}-input-end", (("-i", lab.bridge, "-j", "ACCEPT"),), last=True),
        Chain(
            "nat",
            "POSTROUTING",
            lab.nat_chain,
            (("-s", lab.subnet, "!", "-o", lab.bridge, "-j", "MASQUERADE"),),
        ),
    )


def _silent(rules: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """The same without answers, which only table filter can give."""
    return tuple((*rule[:-1], "DROP") if rule[-1] == "REJECT" else rule for rule in rules)


def _forward_first(
    lab: Lab, opened: tuple[tuple[str, ...], ...], refuse: Iterable[str]
) -> tuple[tuple[str, ...], ...]:
    bridge = lab.bridge
    return (
        # with br_netfilter, frames between hosts of the lab come by here; they are the lab's own affair
        ("-i", bridge, "-m", "physdev", "--physdev-is-bridged", "-j", "ACCEPT"),
        ("-o", bridge, *_BEGUN, "-j", "RETURN"),
        ("-o", bridge, "-j", "DROP"),
        ("-i", bridge, *_BEGUN, "-j", "RETURN"),
        ("!", "-s", lab.subnet, "-i", bridge, "-j", "DROP"),  # it would leave with an address not its own
        ("-i", bridge, "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"),  # and so would this
        ("-i", bridge, "-o", _ANY_LAB, "-j", "REJECT"),
        *(("-d", network, "-i", bridge, *match, "-j", "RETURN") for network, *match in opened),
        # refused with an answer: who looks for a free address or port must not wait for each
        *(("-d", network, "-i", bridge, "-j", "REJECT") for network in refuse),
    )


def _forward_last(lab: Lab) -> tuple[tuple[str, ...], ...]:
    rules: list[tuple[str, ...]] = [(way, lab.bridge, "-j", "ACCEPT") for way in ("-i", "-o")]
    if lab.ip_forward_before == "0":
        # Forwarding is on for labs alone: this machine does not become a router between its other
        # interfaces, unless a rule of somebody else's says so.
        others = ("!", "-i", _ANY_LAB, "!", "-o", _ANY_LAB)
        rules.append((*others, "-m", "physdev", "!", "--physdev-is-bridged", "-j", "DROP"))
    return tuple(rules)


def _input_first(lab: Lab, opened: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    bridge = lab.bridge
    return (
        ("-i", bridge, *_BEGUN, "-j", "RETURN"),
        ("!", "-s", lab.subnet, "-i", bridge, "-j", "DROP"),
        ("-i", bridge, "-p", "icmp", "-m", "icmp", "--icmp-type", "8", "-j", "RETURN"),  # ping
        *(("-d", network, "-i", bridge, *match, "-j", "RETURN") for network, *match in opened),
        ("-i", bridge, "-j", "REJECT"),
    )


def restore_input(chain: Chain, jumps: int | None = None) -> str:
    """One chain for `iptables-restore --noflush`: made or emptied, then filled, in one step.

    jumps: how many jumps to it the builtin chain has, to be replaced by one in the right place; None
    leaves the builtin chain alone.
    """
    lines = [f"*{chain.table}", f":{chain.name} - [0:0]", f"-F {chain.name}"]
    lines += [f"-A {chain.name} {' '.join(rule)}" for rule in chain.rules]
    if jumps is not None:
        lines += [f"-D {chain.builtin} -j {chain.name}"] * jumps
        lines.append(f"{f'-A {chain.builtin}' if chain.last else f'-I {chain.builtin} 1'} -j {chain.name}")
    return "\n".join([*lines, "COMMIT", ""])


def up(lab: Lab, openings: Iterable[Opening], refuse: Iterable[str]) -> int:
    """Make the lab's firewall chains, bridge and forwarding. Returns how many were missing or different.

    In this order, so that the lab is closed before there is a way into it.
    """
    missing = to_make(lab, openings, refuse)
    there = _rules() if missing else {}
    for chain in missing:
        _make(chain, there.get(chain.table, []))
    made = len(missing) + _bridge(lab)
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
    no_ipv6 = Path(f"/proc/sys/net/ipv6/conf/{lab.bridge}/disable_ipv6")
    if no_ipv6.exists() and no_ipv6.read_text().strip() != "1":
        no_ipv6.write_text("1\n")  # the lab is IPv4, and so are its rules: no way round them by fe80::
    prefix = ipaddress.IPv4Network(lab.subnet).prefixlen
    process.run(["ip", "link", "set", lab.bridge, "mtu", str(lab.mtu), "up"])
    process.run(["ip", "address", "replace", f"{lab.gateway}/{prefix}", "dev", lab.bridge])
    return made


def to_make(lab: Lab, openings: Iterable[Opening], refuse: Iterable[str]) -> tuple[Chain, ...]:
    """The lab's chains that are missing, are not as they should be or not asked where they should."""
    there = _rules()
    return tuple(chain for chain in chains(lab, openings, refuse) if not is_whole(chain, there))


def _rules() -> dict[str, list[str]]:
    """The rules of each table, as `iptables-save` prints them; none where iptables is still to come."""
    if shutil.which("iptables-save") is None:
        return {}
    found: dict[str, list[str]] = {}
    for line in process.run(["iptables-save"], check=False).stdout.splitlines():
        if line.startswith("*"):
            found[line[1:]] = rules = []
        elif line.startswith("-A "):
            rules.append(line)
    return found


def is_whole(chain: Chain, there: Mapping[str, list[str]]) -> bool:
    """Whether a chain has its rules and is asked where it should. there: the rules of each table."""
    rules = there.get(chain.table, [])
    # iptables prints REJECT with its default reason; a chain is compared without it
    present = [rule.removesuffix(" --reject-with icmp-port-unreachable") for rule in rules]
    wanted = [f"-A {chain.name} {' '.join(rule)}" for rule in chain.rules]
    return [rule for rule in present if rule.startswith(f"-A {chain.name} ")] == wanted and is_in_place(
        chain, rules
    )


def _make(chain: Chain, rules: list[str]) -> None:
    """rules: those of the chain's table."""
    jumps = None if is_in_place(chain, rules) else rules.count(chain.jump)
    process.run(
        ["iptables-restore", "--wait", "10", "--noflush"],
        input=restore_input(chain, jumps),
        where=chain.name,
    )


def is_in_place(chain: Chain, there: list[str]) -> bool:
    """Whether the builtin chain jumps to this one once, before or after every rule that is not of a lab.

    there: the rules of the table.
    """
    rules = [rule for rule in there if rule.startswith(f"-A {chain.builtin} ")]
    if rules.count(chain.jump) != 1:
        return False
    at = rules.index(chain.jump)
    beyond = rules[at + 1 :] if chain.last else rules[:at]
    return all(rule.startswith(f"-A {chain.builtin} -j {PREFIX}-") for rule in beyond)


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
    """Remove a host's cable and namespace. Returns a line for each that was there."""
    removed: list[str] = []
    if link_exists(host.interface):
        process.run(["ip", "link", "delete", host.interface])
        removed.append(f"interface {host.interface}")
    if Path(f"/run/netns/{host.netns}").exists():
        process.run(["ip", "netns", "delete", host.netns])
        removed.append(f"network namespace {host.netns}")
    return removed


def down(lab: Lab) -> list[str]:
    """Remove the lab's chains and bridge. Returns a line for each that was there.

    Forwarding is the caller's to put back, because labs share it.
    """
    removed: list[str] = []
    if link_exists(lab.bridge):  # before the chains: there is no open way into it in between
        process.run(["ip", "link", "delete", lab.bridge])
        removed.append(f"bridge {lab.bridge}")
    for chain in chains(lab):
        while iptables(chain.table, "-D", chain.builtin, "-j", chain.name, check=False).returncode == 0:
            pass
        if iptables(chain.table, "-S", chain.name, check=False).returncode == 0:
            iptables(chain.table, "-F", chain.name)
            iptables(chain.table, "-X", chain.name)
            removed.append(f"firewall chain {chain.name}")
    return removed


def interfaces() -> tuple[str, ...]:
    """The interfaces this machine has, its labs' aside."""
    names = (path.name for path in Path("/sys/class/net").iterdir())
    return tuple(sorted(name for name in names if not is_of_a_lab(name)))


def forwarders(before: Iterable[str], links: list[dict[str, Any]]) -> tuple[str, ...]:
    """Interfaces that came since `before` and are of a kind that needs forwarding.

    links: `ip -json -details link`.
    """
    known = set(before)
    return tuple(
        link["ifname"]
        for link in links
        if link.get("linkinfo", {}).get("info_kind") in FORWARDERS
        and link["ifname"] not in known
        and not is_of_a_lab(link["ifname"])
    )


def newcomers(lab: Lab) -> tuple[str, ...]:
    """The `forwarders` that came to this machine since before its first lab."""
    links = json.loads(process.run(["ip", "-json", "-details", "link"]).stdout or "[]")
    return forwarders(lab.interfaces_before, links)


def turned_on_forwarding(lab: Lab) -> bool:
    """Whether forwarding was off before the first lab and still is as slipway set it."""
    return lab.ip_forward_before == "0" and IP_FORWARD.read_text().strip() == "1"


def link_exists(name: str) -> bool:
    return Path(f"/sys/class/net/{name}").exists()


def iptables(table: str, *words: str, check: bool = True) -> process.Completed:
    return process.run(["iptables", "--wait", "10", "-t", table, *words], check=check)
