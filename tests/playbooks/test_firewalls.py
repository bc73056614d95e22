"""Firewalls that are on, ports between hosts, and what is said where they are closed."""

from __future__ import annotations

import errno
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import ended, load

firewalls = load("module_utils/firewalls.py")
needed = load("filter/needed_connections.py")
shut_out_pods = load("filter/shut_out_pods.py").shut_out_pods
closed_connections = load("filter/closed_connections.py").closed_connections
connections = load("modules/connections.py")
host_facts = load("modules/host_facts.py")
DOCS = Path(__file__).parents[2] / "docs/cluster.md"

UFW = """\
Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
6443/tcp                   ALLOW       10.0.0.0/24
Anywhere                   ALLOW       10.244.0.0/16              # pods
Anywhere                   ALLOW       10.0.0.0/24
Anywhere                   DENY        192.0.2.0/24
Anywhere (v6)              ALLOW IN    fd00:10:244::/56
"""


def chain(table: str, name: str, hook: str, policy: str = "drop", family: str = "inet") -> dict[str, Any]:
    return {"chain": {"family": family, "table": table, "name": name, "hook": hook, "policy": policy}}


def rule(table: str, name: str, *right: Any, field: str = "saddr", verdict: str = "accept") -> dict[str, Any]:
    left = {"payload": {"protocol": "ip", "field": field}}
    matches = [{"match": {"op": "==", "left": left, "right": each}} for each in right]
    return {"rule": {"family": "inet", "table": table, "chain": name, "expr": [*matches, {verdict: None}]}}


PODS = {"prefix": {"addr": "10.244.0.0", "len": 16}}


def test_what_ufw_lets_in_whole() -> None:
    assert firewalls.of_ufw(UFW) == ["10.244.0.0/16", "10.0.0.0/24", "fd00:10:244::/56"]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([], None),
        ([chain("f", "in", "input", "accept")], None),
        ([chain("filter", "INPUT", "input", family="ip")], None),  # iptables' own
        ([chain("firewalld", "filter_INPUT", "input")], None),
        ([chain("f", "in", "input")], []),
        ([chain("f", "in", "input"), rule("f", "in", PODS)], ["10.244.0.0/16"]),
        (
            [chain("f", "in", "input"), rule("f", "in", {"set": ["10.0.0.4", PODS]})],
            ["10.0.0.4", "10.244.0.0/16"],
        ),
        ([chain("f", "in", "input"), rule("f", "in", PODS, field="daddr")], []),
        ([chain("f", "in", "input"), rule("f", "in", PODS, verdict="drop")], []),
        ([chain("f", "in", "input"), rule("f", "in", PODS, 22)], []),  # if something else is so, too
        # pods that reach the host and not one another
        ([chain("f", "in", "input"), chain("f", "fwd", "forward"), rule("f", "in", PODS)], []),
        (
            [
                chain("f", "in", "input"),
                chain("f", "fwd", "forward"),
                rule("f", "in", PODS),
                rule("f", "fwd", PODS),
            ],
            ["10.244.0.0/16"],
        ),
    ],
)
def test_what_nftables_lets_in_whole(objects: list[dict[str, Any]], expected: list[str] | None) -> None:
    assert firewalls.of_nftables({"nftables": [{"metainfo": {}}, *objects]}) == expected


def asked(answers: dict[str, str]) -> Callable[[list[str]], str]:
    return lambda argv: answers.get(" ".join(argv), "")


def test_each_firewall_is_told_once() -> None:
    nft = json.dumps({"nftables": [chain("filter", "input", "input")]})
    drops = "-P INPUT DROP\n-A INPUT -s 10.244.0.0/16 -j ACCEPT\n-A INPUT -s 10.0.0.1/32 -p tcp -j ACCEPT\n"
    found = firewalls.firewalls
    assert found(asked({})) == {}
    assert found(asked({"ufw status": "Status: inactive\n", "iptables -S INPUT": "-P INPUT ACCEPT\n"})) == {}
    # ufw sets iptables' policy
    assert found(asked({"ufw status": UFW, "iptables -S INPUT": drops})).keys() == {"ufw"}
    assert found(asked({"iptables -S INPUT": drops})) == {"iptables": ["10.244.0.0/16"]}
    assert found(asked({"nft --json list ruleset": nft})) == {"nftables": []}
    running = {"firewall-cmd --state": "running\n", "firewall-cmd --get-default-zone": "public\n"}
    trusted = {"firewall-cmd --zone=trusted --list-sources": "10.244.0.0/16 10.96.0.0/12\n"}
    assert found(asked({**running, **trusted})) == {"firewalld": ["10.244.0.0/16", "10.96.0.0/12"]}
    assert (
        found(asked({**running, "firewall-cmd --get-default-zone": "trusted"}))["firewalld"][0] == "0.0.0.0/0"
    )


@pytest.mark.parametrize(
    ("networks", "wanted", "inside"),
    [
        (["10.244.0.0/16"], "10.244.0.0/16", True),
        (["10.0.0.0/8"], "10.244.0.0/16", True),
        (["10.244.1.0/24"], "10.244.0.0/16", False),
        (["::/0"], "10.244.0.0/16", False),
        (["@trusted", "fd00::/8"], "fd00:10:244::/56", True),
        ([], "10.244.0.0/16", False),
    ],
)
def test_a_network_in_others(networks: list[str], wanted: str, inside: bool) -> None:
    assert firewalls.lets_in(networks, wanted) is inside


@pytest.mark.parametrize(
    ("firewall", "source", "port", "command"),
    [
        ("ufw", "10.0.0.2", "6443/tcp", "ufw allow from 10.0.0.2 to any port 6443 proto tcp"),
        ("ufw", "10.244.0.0/16", "", "ufw allow from 10.244.0.0/16"),
        (
            "firewalld",
            "fd00::/56",
            "",
            "--permanent --zone=trusted --add-source=fd00::/56 && firewall-cmd --reload",
        ),
        (
            "firewalld",
            "fd00::2",
            "8472/udp",
            "family=ipv6 source address=fd00::2 port port=8472 protocol=udp accept'",
        ),
        ("nftables", "10.0.0.2", "6443/tcp", "ip saddr 10.0.0.2 tcp dport 6443 accept"),
        ("iptables", "fd00::2", "6443/tcp", "ip6tables -I INPUT -s fd00::2 -p tcp --dport 6443 -j ACCEPT"),
        ("iptables", "10.244.0.0/16", "", "iptables -I INPUT -s 10.244.0.0/16 -j ACCEPT"),
    ],
)
def test_what_opens_a_port(firewall: str, source: str, port: str, command: str) -> None:
    assert command in firewalls.opening(firewall, source, port)


def test_a_firewall_that_keeps_pods_out_is_told_with_the_command() -> None:
    def host(joined: bool = False, **on: list[str]) -> dict[str, Any]:
        return {"slipway_host": {"joined": joined, "firewalls": on}}

    hosts = {
        "shut": host(ufw=["10.0.0.0/24"]),
        "half": host(firewalld=["10.244.0.0/16"]),
        "open": host(ufw=["10.0.0.0/8", "fd00::/8"]),
        "off": host(),
        "node": host(joined=True, ufw=[]),
        "far": {},
    }
    said = shut_out_pods(hosts, ["10.244.0.0/16", "fd00:10:244::/56"])
    assert [line.partition(" ")[0] for line in said] == ["shut:", "half:"]
    assert said[0].endswith("from there: ufw allow from 10.244.0.0/16; ufw allow from fd00:10:244::/56")
    assert "10.244.0.0/16" not in said[1], "what is let in is not told again"


GROUPS = {"control_plane": ["cp"], "worker": ["w1", "w2"], "registry": ["r"], "docker": ["cp"], "all": ["x"]}
ADDRESSES = {
    name: {"address": f"10.0.0.{number},fd00::{number}"}
    for number, name in enumerate(("cp", "w1", "w2", "r"))
}


def wanted(host: str, *joined: str) -> set[str]:
    found = needed.needed_connections(host, GROUPS, ADDRESSES, joined)
    assert all(each["address"] == ADDRESSES[each["host"]]["address"].partition(",")[0] for each in found)
    return {f"{each['host']} {each['port']}" for each in found}


def test_which_host_needs_which_port_of_another() -> None:
    assert wanted("w1") == {
        *("cp 6443/tcp", "cp 10250/tcp", "w2 10250/tcp", "cp 8472/udp", "w2 8472/udp", "r 5001/tcp"),
    }
    assert wanted("cp") == {
        *("w1 10250/tcp", "w2 10250/tcp", "w1 8472/udp", "w2 8472/udp", "r 5001/tcp", "r 5000/tcp"),
    }
    assert wanted("r") == wanted("x") == set()
    assert wanted("w1", "cp") == wanted("w1") - {"cp 8472/udp"}, "a VXLAN device answers nothing"


def test_the_documentation_has_the_same_ports() -> None:
    rows = re.findall(r"^\| ([\d, ]+)/(tcp|udp) \|", DOCS.read_text(), re.MULTILINE)
    told = {f"{port.strip()}/{protocol}" for ports, protocol in rows for port in ports.split(",")}
    assert {port for _, _, ports in needed.PORTS for port in ports} <= told


def test_a_port_that_is_closed_is_told_with_what_opens_it() -> None:
    tried = [
        {"host": "cp", "address": "10.0.0.2", "port": "6443/tcp", "why": "no answer within 3 s"},
        {"host": "w2", "address": "10.0.0.4", "port": "10250/tcp", "why": "no route to host"},
    ]
    facts: dict[str, Any] = {"cp": {"slipway_host": {"firewalls": {"ufw": []}}}}
    said = closed_connections(tried, "w1", "10.0.0.3,fd00::3", facts)
    assert said[0] == (
        "w1 does not reach 6443/tcp of cp (10.0.0.2): no answer within 3 s; "
        "ufw is on there: ufw allow from 10.0.0.3 to any port 6443 proto tcp"
    )
    assert said[1].endswith(
        "no route to host; no firewall is on there, so it is one between them, as a cloud's security group"
    )


def test_what_listens_by_port() -> None:
    shown = (
        'LISTEN 0 4096 *:6443 *:* users:(("k3s-server",pid=9,fd=12))\n'
        'LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=1,fd=4),("systemd",pid=2,fd=3))\n'
        "LISTEN 0 128 127.0.0.1:53 0.0.0.0:*\n\n"
    )
    assert host_facts.listeners(shown) == {"6443": "k3s-server", "22": "sshd"}


def test_a_port_nobody_listens_on_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        socket.socket() as listening,
        socket.socket() as taken,
        socket.socket(type=socket.SOCK_DGRAM) as deaf,
    ):
        for sock in (listening, taken, deaf):
            sock.bind(("127.0.0.1", 0))
        listening.listen()
        ports = [f"{sock.getsockname()[1]}/tcp" for sock in (listening, taken)]
        unheard = f"{deaf.getsockname()[1]}/udp"
        free = f"{taken.getsockname()[1]}/udp"
        targets = [{"host": "a", "address": "127.0.0.1", "port": port} for port in (*ports, free, unheard)]
        told = ended(connections, capsys, targets=targets, timeout=0.3)
    assert (told["closed"], [each["port"] for each in told["silent"]]) == ([], [unheard])


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TimeoutError(), "no answer within 3 s"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),  # firewalld's answer
        (ConnectionRefusedError(), ""),
    ],
)
def test_a_port_that_a_firewall_is_in_front_of(
    error: OSError, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert connections.tcp("192.0.2.1", 6443, 3) == why
