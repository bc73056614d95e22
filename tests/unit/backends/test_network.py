from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.backends import network
from infra.backends.labs import Lab
from infra.backends.network import Taken, choose_subnet
from infra.core.errors import EnvironmentFault

LAB = Lab(
    name="slip-abc123",
    token="t",
    state=Path("/state"),
    subnet="10.77.4.0/24",
    gateway="10.77.4.1",
    mtu=1400,
    suite="trixie",
    bridge="slip-abc123",
    forward_chain="slip-abc123-forward",
    nat_chain="slip-abc123-nat",
    ip_forward_before="0",
)


def test_addresses_and_routes_count_but_not_the_default_route() -> None:
    addresses = [{"ifname": "eth0", "addr_info": [{"family": "inet", "local": "10.77.0.9", "prefixlen": 24}]}]
    routes = [{"dst": "default", "dev": "eth0"}, {"dst": "10.77.1.7", "dev": "tun0"}, {"dst": "10.77.2.0/23"}]
    found = network.networks_in_use(addresses, routes)
    assert [str(taken.network) for taken in found] == ["10.77.0.0/24", "10.77.1.7/32", "10.77.2.0/23"]
    assert str(choose_subnet(None, found)) == "10.77.4.0/24"
    with pytest.raises(EnvironmentFault, match="interface eth0"):
        choose_subnet("10.77.0.128/25", found)


@given(st.lists(st.integers(0, 255), max_size=255, unique=True))
def test_the_first_free_subnet_is_free(numbers: list[int]) -> None:
    taken = [Taken(ipaddress.IPv4Network(f"10.77.{number}.0/24"), "x") for number in numbers]
    chosen = choose_subnet(None, taken)
    assert chosen == ipaddress.IPv4Network(f"10.77.{min(set(range(256)) - set(numbers))}.0/24")


def test_a_full_pool_is_an_error() -> None:
    with pytest.raises(EnvironmentFault, match="no free /24"):
        choose_subnet(None, [Taken(ipaddress.IPv4Network("10.0.0.0/8"), "a VPN")])


def test_bridged_frames_pass_before_private_ranges_are_refused() -> None:
    rules = network.forward_rules(LAB, ["10.1.2.3"])
    assert rules[0] == ["-i", LAB.bridge, "-m", "physdev", "--physdev-is-bridged", "-j", "ACCEPT"]
    targets = [rule[-1] for rule in rules]
    first_refusal = targets.index("REJECT")
    assert rules.index(["-d", "10.1.2.3/32", "-i", LAB.bridge, "-j", "ACCEPT"]) < first_refusal
    assert rules.index(["-d", LAB.subnet, "-i", LAB.bridge, "-j", "ACCEPT"]) < first_refusal
    assert targets.count("REJECT") == 3
    assert all("-i" in rule or "-o" in rule for rule in rules)  # nobody else's traffic is touched


def test_a_chain_is_filled_in_one_step() -> None:
    text = network.restore_input("nat", "slip-x-nat", [["-s", "10.77.0.0/24", "-j", "MASQUERADE"]])
    assert text.splitlines() == [
        "*nat",
        ":slip-x-nat - [0:0]",
        "-F slip-x-nat",
        "-A slip-x-nat -s 10.77.0.0/24 -j MASQUERADE",
        "COMMIT",
    ]


def test_a_mac_is_local_and_follows_the_address() -> None:
    assert network.mac("10.77.4.2") == "02:77:0a:4d:04:02"
