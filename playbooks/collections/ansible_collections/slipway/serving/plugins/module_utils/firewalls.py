"""Firewalls that are on at a host: whom they let in to everything, and what opens a port."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

IPTABLES = frozenset(
    {"filter", "nat", "mangle", "raw", "security"}
)  # tables that iptables-nft keeps its own in

_UFW_ALLOWS = r"^Anywhere(?: \(v6\))?\s+ALLOW(?: IN)?\s+([0-9a-fA-F:.]+(?:/\d+)?)\s*(?:#.*)?$"


def firewalls(run: Callable[[list[str]], str]) -> dict[str, list[str]]:
    """Firewall that is on -> the networks it lets in whole.

    run: the output of a program, empty when it fails or is not there.
    """
    found: dict[str, list[str]] = {}
    ufw = run(["ufw", "status"])
    if "Status: active" in ufw:
        found["ufw"] = of_ufw(ufw)
    if run(["firewall-cmd", "--state"]).strip() == "running":
        found["firewalld"] = run(["firewall-cmd", "--zone=trusted", "--list-sources"]).split()
        if run(["firewall-cmd", "--get-default-zone"]).strip() == "trusted":
            found["firewalld"] += ["0.0.0.0/0", "::/0"]
    rules = run(["nft", "--json", "list", "ruleset"])
    nftables = of_nftables(json.loads(rules)) if rules.strip() else None
    if nftables is not None and "firewalld" not in found:
        found["nftables"] = nftables
    iptables = of_iptables(run(["iptables", "-S", "INPUT"]))
    if iptables is not None and "ufw" not in found:
        found["iptables"] = iptables
    return found


def of_ufw(status: str) -> list[str]:
    """Networks that `ufw status` says may reach anything."""
    return re.findall(_UFW_ALLOWS, status, re.MULTILINE)


def of_iptables(rules: str) -> list[str] | None:
    """Networks that INPUT accepts whole, of `iptables -S INPUT`; None where it drops nothing by itself."""
    if not re.search(r"^-P INPUT (DROP|REJECT)", rules, re.MULTILINE):
        return None
    return re.findall(r"^-A INPUT -s (\S+) -j ACCEPT$", rules, re.MULTILINE)


def of_nftables(ruleset: dict[str, Any]) -> list[str] | None:
    """Networks that every chain of hook input or forward accepts whole; None where none of them drops.

    ruleset: of `nft --json list ruleset`. Chains of iptables and firewalld are left out, jumps not followed.
    """
    objects = ruleset.get("nftables", [])
    dropping = [
        (chain["family"], chain["table"], chain["name"])
        for entry in objects
        if (chain := entry.get("chain"))
        and chain.get("hook") in ("input", "forward")
        and chain.get("policy") == "drop"
        and not (chain["family"] in ("ip", "ip6") and chain["table"] in IPTABLES)
        and chain["table"] != "firewalld"
    ]
    if not dropping:
        return None
    let_in: dict[tuple[str, str, str], set[str]] = {place: set() for place in dropping}
    for entry in objects:
        rule = entry.get("rule", {})
        place = (rule.get("family", ""), rule.get("table", ""), rule.get("chain", ""))
        if place in let_in:
            let_in[place].update(_accepted(rule.get("expr", [])))
    return sorted(set.intersection(*let_in.values()))


def _accepted(expressions: list[dict[str, Any]]) -> list[str]:
    """The networks of a rule that says nothing but: from there, accept."""
    matches = [each["match"] for each in expressions if "match" in each]
    verdict = any("accept" in each for each in expressions)
    if not verdict or len(matches) != 1 or matches[0].get("op") != "==":
        return []
    if matches[0].get("left", {}).get("payload", {}).get("field") != "saddr":
        return []
    right = matches[0].get("right")
    values = right["set"] if isinstance(right, dict) and "set" in right else [right]
    out = []
    for value in values:
        prefix = value.get("prefix") if isinstance(value, dict) else None
        out += [f"{prefix['addr']}/{prefix['len']}"] if prefix else [value] if isinstance(value, str) else []
    return out


def lets_in(networks: Iterable[str], wanted: str) -> bool:
    """Whether a network is wholly in one of these; names of sets and the like do not count."""
    target = ipaddress.ip_network(wanted, strict=False)
    for each in networks:
        try:
            network = ipaddress.ip_network(each, strict=False)
        except ValueError:
            continue
        if network.version == target.version and target.subnet_of(network):  # type: ignore[arg-type]  # of one version
            return True
    return False


def opening(firewall: str, source: str, port: str = "") -> str:
    """The command that lets a network or an address in; port: as `6443/tcp`, or empty for everything."""
    number, _, protocol = port.partition("/")
    family = "ip6" if ":" in source else "ip"
    if firewall == "ufw":
        return f"ufw allow from {source}" + (f" to any port {number} proto {protocol}" if port else "")
    if firewall == "firewalld":
        rule = f"rule family={'ipv6' if ':' in source else 'ipv4'} source address={source} "
        rich = f"--add-rich-rule='{rule}port port={number} protocol={protocol} accept'"
        what = rich if port else f"--zone=trusted --add-source={source}"
        return f"firewall-cmd --permanent {what} && firewall-cmd --reload"
    if firewall == "nftables":
        end = f"{family} saddr {source} " + (f"{protocol} dport {number} accept" if port else "accept")
        return f"in /etc/nftables.conf, chains of hook input and forward: {end}"
    flag = f" -p {protocol} --dport {number}" if port else ""
    return f"{'ip6tables' if family == 'ip6' else 'iptables'} -I INPUT -s {source}{flag} -j ACCEPT"
