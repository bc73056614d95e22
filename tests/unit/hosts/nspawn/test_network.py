from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slipway.core.errors import EnvironmentFault
from slipway.hosts.nspawn import network
from slipway.hosts.nspawn.labs import Lab
from slipway.hosts.nspawn.network import Chain, Opening, Taken, choose_subnet

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


@settings(deadline=None)  # a busy machine takes its time
@given(st.integers(0, 2**256 - 2))
def test_the_first_free_subnet_is_free(bits: int) -> None:
    numbers = [number for number in range(256) if bits >> number & 1]  # at least one is free
    taken = [Taken(ipaddress.IPv4Network(f"10.77.{number}.0/24"), "x") for number in numbers]
    chosen = choose_subnet(None, taken)
    assert chosen == ipaddress.IPv4Network(f"10.77.{min(set(range(256)) - set(numbers))}.0/24")


def test_a_full_pool_is_an_error() -> None:
    with pytest.raises(EnvironmentFault, match="no free /24"):
        choose_subnet(None, [Taken(ipaddress.IPv4Network("10.0.0.0/8"), "a VPN")])


def rules(builtin: str, table: str = "filter", last: bool = False, lab: Lab = LAB) -> list[str]:
    openings = [Opening("10.1.2.3/32", "tcp", 443), Opening("192.168.7.0/24")]
    refuse = (*network.PRIVATE, "192.0.2.0/24")
    (chain,) = [
        chain
        for chain in network.chains(lab, openings, refuse)
        if (chain.table, chain.builtin, chain.last) == (table, builtin, last)
    ]
    return [" ".join(rule) for rule in chain.rules]


def test_what_is_refused_lets_nothing_through_itself() -> None:
    for builtin in ("FORWARD", "INPUT"):
        for table in ("filter", "security"):
            passing = [rule for rule in rules(builtin, table) if rule.endswith("ACCEPT")]
            assert [rule for rule in passing if "--physdev-is-bridged" not in rule] == []
    assert rules("FORWARD")[0].endswith("--physdev-is-bridged -j ACCEPT")


def test_table_security_refuses_the_same_silently() -> None:
    for builtin in ("FORWARD", "INPUT"):
        with_answers, silent = rules(builtin), rules(builtin, "security")
        assert [rule.replace("REJECT", "DROP") for rule in with_answers] == silent


def test_every_rule_but_the_routers_is_about_the_labs_own_bridge() -> None:
    every = [rule for chain in network.chains(LAB) if chain.table != "nat" for rule in chain.rules]
    foreign = [rule for rule in every if LAB.bridge not in rule]
    assert [" ".join(rule) for rule in foreign] == [
        "! -i slip-+ ! -o slip-+ -m physdev ! --physdev-is-bridged -j DROP"
    ]
    routes_already = [chain.rules for chain in network.chains(replace(LAB, ip_forward_before="1"))]
    assert [rule for rules in routes_already for rule in rules if rule in foreign] == []


def test_openings_come_before_what_they_are_taken_out_of() -> None:
    forward = rules("FORWARD")
    first_refusal = next(at for at, rule in enumerate(forward) if rule.startswith("-d") and "REJECT" in rule)
    for opening in (
        "-d 10.1.2.3/32 -i slip-abc123 -p tcp -m tcp --dport 443",
        "-d 192.168.7.0/24 -i slip-abc123",
    ):
        assert forward.index(f"{opening} -j RETURN") < first_refusal
        assert f"{opening} -j RETURN" in rules("INPUT")
    assert "-d 169.254.0.0/16 -i slip-abc123 -j REJECT" in forward
    assert "-d 192.0.2.0/24 -i slip-abc123 -j REJECT" in forward


def test_this_machines_own_network_is_refused_though_it_is_public() -> None:
    def link(name: str, address: str, prefix: int) -> dict[str, object]:
        return {"ifname": name, "addr_info": [{"family": "inet", "local": address, "prefixlen": prefix}]}

    links = [
        link("lo", "127.0.0.1", 8),
        link("eth0", "192.0.2.9", 24),
        link("eth1", "192.168.1.9", 24),
        link("slip-def456", "203.0.113.1", 24),  # another lab's, and refused as such
    ]
    assert network.refused(links) == (*network.PRIVATE, "192.0.2.0/24")


@pytest.mark.parametrize(
    ("last", "builtin", "in_place"),
    [
        (False, ["-j slip-def456-input", "-j slip-abc123-x", "-j owner"], True),
        (False, ["-j owner", "-j slip-abc123-x"], False),
        (True, ["-j owner", "-j slip-abc123-x", "-j slip-def456-end"], True),
        (True, ["-j slip-abc123-x", "-i docker0 -j ACCEPT"], False),
        (True, ["-j slip-abc123-x", "-j slip-abc123-x"], False),
        (True, [], False),
    ],
)
def test_a_chain_is_asked_once_and_where_it_should(last: bool, builtin: list[str], in_place: bool) -> None:
    chain = Chain("filter", "INPUT", "slip-abc123-x", (), last)
    assert (
        network.is_in_place(chain, ["-P INPUT ACCEPT", *(f"-A INPUT {rule}" for rule in builtin)]) == in_place
    )


def test_a_chain_is_filled_and_put_in_its_place_in_one_step() -> None:
    masquerade = (("-s", "10.77.0.0/24", "-j", "MASQUERADE"),)
    chain = Chain("nat", "POSTROUTING", "slip-x-nat", masquerade)
    filled = ["*nat", ":slip-x-nat - [0:0]", "-F slip-x-nat", "-A slip-x-nat -s 10.77.0.0/24 -j MASQUERADE"]
    assert network.restore_input(chain).splitlines() == [*filled, "COMMIT"]
    moved = ["-D POSTROUTING -j slip-x-nat", "-I POSTROUTING 1 -j slip-x-nat"]
    assert network.restore_input(chain, 1).splitlines() == [*filled, *moved, "COMMIT"]
    at_the_end = replace(chain, last=True)
    assert network.restore_input(at_the_end, 0).splitlines()[-2] == "-A POSTROUTING -j slip-x-nat"


@pytest.mark.parametrize(
    ("kind", "name", "needs"),
    [
        ("bridge", "docker0", True),
        ("wireguard", "wg0", True),
        ("tun", "tun0", True),
        ("bridge", "virbr0", False),  # it was there before forwarding was turned on
        ("bridge", "slip-def456", False),
        ("veth", "veth12", False),
        ("", "eth7", False),
    ],
)
def test_what_came_meanwhile_and_forwards_is_found(kind: str, name: str, needs: bool) -> None:
    links = [{"ifname": name, **({"linkinfo": {"info_kind": kind}} if kind else {})}]
    assert network.forwarders(["eth0", "virbr0"], links) == ((name,) if needs else ())


@pytest.mark.parametrize(("before", "now", "ours"), [("0", "1", True), ("1", "1", False), ("0", "0", False)])
def test_forwarding_is_slipways_only_as_it_set_it(
    before: str, now: str, ours: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(network, "IP_FORWARD", tmp_path / "ip_forward")
    (tmp_path / "ip_forward").write_text(f"{now}\n")
    assert network.turned_on_forwarding(replace(LAB, ip_forward_before=before)) is ours


def test_a_mac_is_local_and_follows_the_address() -> None:
    assert network.mac("10.77.4.2") == "02:77:0a:4d:04:02"


@pytest.mark.parametrize(
    ("routes", "devices"),
    [
        ([], ()),
        (
            [{"dst": "default", "gateway": "10.1.0.1", "dev": "eth0", "metric": 100}, {"dev": "eth1"}],
            ("eth0",),
        ),
        ([{"dst": "default", "nexthops": [{"dev": "eth0", "weight": 1}, {"dev": "eth1"}]}], ("eth0", "eth1")),
        ([{"type": "blackhole", "dst": "default", "flags": []}], ()),
    ],
)
def test_the_interfaces_of_one_several_or_no_default_route(
    routes: list[dict[str, object]], devices: tuple[str, ...]
) -> None:
    assert network.default_devices(routes) == devices
