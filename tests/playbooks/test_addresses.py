"""Under which address hosts know one another, over the layouts that real machines have."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
import yaml
from slipway.core import process

from tests.plugins import PLUGINS, load, of

node_addresses = load("filter/node_addresses.py").node_addresses
addresses = load("module_utils/interfaces.py").addresses


def facts(*cards: str, route: str = "", route6: str = "", joined: str = "") -> dict[str, Any]:
    """Ansible's facts. cards: each `name address/prefix[ address/prefix]`; route: the default route's address."""
    found: dict[str, Any] = {"interfaces": [card.split()[0] for card in cards]}
    for card in cards:
        name, *networks = card.split()
        known: dict[str, Any] = {"device": name, "active": True, "mtu": 1450 if name == "eth1" else 1500}
        for network in map(ipaddress.ip_interface, networks):
            prefix = str(network.network.prefixlen)
            entry = {"address": str(network.ip), "prefix": prefix, "netmask": str(network.netmask)}
            if network.version == 6:
                known.setdefault("ipv6", []).append({**entry, "scope": "global"})
            elif "ipv4" in known:
                known.setdefault("ipv4_secondaries", []).append(entry)
            else:
                known["ipv4"] = entry
        found[name.replace("-", "_")] = known
    found["default_ipv4"] = {"address": route} if route else {}
    found["default_ipv6"] = {"address": route6} if route6 else {}
    found["slipway_host"] = {"node_address": joined}
    return found


def host(
    *cards: str, route: str = "", route6: str = "", joined: str = "", **variables: Any
) -> dict[str, Any]:
    told = facts(*cards, route=route, route6=route6, joined=joined)
    return {"ansible_facts": told, **variables}


def settled(hosts: dict[str, Any]) -> dict[str, str]:
    """Host to address, once nothing is wrong with any."""
    found = node_addresses(hosts)
    assert [line for each in found.values() for line in each["problems"]] == []
    return {name: each["address"] for name, each in found.items()}


def problems(hosts: dict[str, Any]) -> list[str]:
    return [line for each in node_addresses(hosts).values() for line in each["problems"]]


def vagrant(*private: str, **variables: Any) -> dict[str, Any]:
    """VirtualBox as Vagrant sets it up: a NAT of its own for each machine, ports forwarded, private networks."""
    return host(
        "eth0 10.0.2.15/24",
        *(f"eth{number} {network}" for number, network in enumerate(private, 1)),
        "docker0 172.17.0.1/16",  # of the same network on every host, and not theirs together
        route="10.0.2.15",
        **{"ansible_host": "127.0.0.1", **variables},
    )


def test_virtualbox_nat_and_a_private_network() -> None:
    hosts = {
        f"n{number}": vagrant(f"192.168.56.1{number}/24", ansible_port=2200 + number) for number in range(3)
    }
    assert settled(hosts) == {"n0": "192.168.56.10", "n1": "192.168.56.11", "n2": "192.168.56.12"}
    found = node_addresses(hosts)["n1"]
    assert found["external"] == "192.168.56.11", "a forwarded port leads to SSH and nothing else"
    assert found["mtu"] == 1450, "of the card with the address"


def test_one_virtualbox_machine() -> None:
    assert settled({"n": vagrant("192.168.56.10/24")}) == {"n": "192.168.56.10"}
    assert settled({"n": vagrant()}) == {"n": "10.0.2.15"}, "there is nothing else"
    (line,) = problems({"a": vagrant(), "b": vagrant("192.168.56.11/24")})[:1]
    assert line.startswith(
        "a, b have 10.0.2.15 alike, as behind a NAT of their own each; no other network has all hosts"
    )


def test_nat_and_two_networks_is_for_people_to_say() -> None:
    hosts = {
        name: vagrant(f"192.168.56.{number}/24", f"10.9.0.{number}/16")
        for name, number in (("a", 10), ("b", 11))
    }
    said = problems(hosts)
    assert len(said) == 2
    assert said[1].endswith(
        "which network do hosts use among themselves, 10.9.0.0/16 (10.9.0.11) or 192.168.56.0/24 (192.168.56.11)? "
        "set kubernetes_node_address for each host in the inventory"
    )
    # where one is settled, the others follow into its network
    for one in ({"kubernetes_node_address": "10.9.0.10"}, {"ansible_host": "10.9.0.10"}):
        assert settled({**hosts, "a": {**hosts["a"], **one}}) == {"a": "10.9.0.10", "b": "10.9.0.11"}


def test_a_clouds_private_and_public_address() -> None:
    """The public one is nowhere on the machine."""
    hosts = {
        "cp": host("ens5 10.0.1.10/24", route="10.0.1.10", ansible_host="203.0.113.7"),
        "w": host("ens5 10.0.2.10/24", route="10.0.2.10", ansible_host="ec2.example.org"),
    }
    found = node_addresses(hosts)
    assert settled(hosts) == {"cp": "10.0.1.10", "w": "10.0.2.10"}
    assert [found[name]["external"] for name in hosts] == ["203.0.113.7", "ec2.example.org"]


def test_two_networks_of_which_one_is_for_administration() -> None:
    cards = ("eno1 192.0.2.{}/24", "eno2 10.5.0.{}/24")
    hosts = {
        name: host(
            *(card.format(number) for card in cards),
            route=f"192.0.2.{number}",
            ansible_host=f"192.0.2.{number}",
        )
        for name, number in (("a", 1), ("b", 2))
    }
    assert settled(hosts) == {"a": "192.0.2.1", "b": "192.0.2.2"}
    for number, each in enumerate(hosts.values(), 1):
        each["kubernetes_node_address"] = f"10.5.0.{number}"
    assert settled(hosts) == {"a": "10.5.0.1", "b": "10.5.0.2"}
    assert node_addresses(hosts)["a"]["external"] == "192.0.2.1", "it is reached as before"
    hosts["a"]["host_external_address"] = "FD00::7"
    assert node_addresses(hosts)["a"]["external"] == "fd00::7", "as certificates have it"


def test_addresses_of_ipv6_alone() -> None:
    hosts = {
        name: host(f"eth0 2001:db8::{number}/64 fe80::{number}/64", route6=f"2001:db8::{number}")
        for name, number in (("a", 1), ("b", 2))
    }
    assert settled(hosts) == {"a": "2001:db8::1", "b": "2001:db8::2"}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        (None, "10.0.0.4"),
        ("10.244.0.0/16", "10.0.0.4"),
        ("fd00:10:244::/56", "fd00::4"),
        ("10.244.0.0/16,fd00:10:244::/56", "10.0.0.4,fd00::4"),
        ("fd00:10:244::/56,10.244.0.0/16", "fd00::4,10.0.0.4"),
    ],
)
def test_both_families_as_the_pods_networks_have_them(pods: str | None, expected: str) -> None:
    asked = {"control_plane_pod_subnet": pods} if pods else {}
    both = host("eth0 10.0.0.4/24 fd00::4/64", route="10.0.0.4", route6="fd00::4", **asked)
    assert settled({"n": both}) == {"n": expected}


def test_a_network_without_a_way_out_and_several_ways_out() -> None:
    inside = {name: host(f"eth0 10.1.0.{number}/24") for name, number in (("a", 1), ("b", 2))}
    assert settled(inside) == {"a": "10.1.0.1", "b": "10.1.0.2"}
    # Ansible names the route that packets take; the other card has a default route as well
    several = host("eth0 10.1.0.1/24", "eth1 10.2.0.1/24", route="10.2.0.1")
    assert settled({"n": several}) == {"n": "10.2.0.1"}
    (line,) = problems({"n": host("eth0 10.1.0.1/24", "eth1 10.2.0.1/24")})
    assert (
        "n: no default route over IPv4" in line
        and "10.1.0.0/24 (10.1.0.1) or 10.2.0.0/24 (10.2.0.1)?" in line
    )


def test_a_node_keeps_what_it_has_joined_with() -> None:
    """A card that was added, or another default route, changes nothing."""
    node = host("eth0 10.1.0.1/24", "eth1 10.2.0.1/24", route="10.2.0.1", joined="10.1.0.1")
    assert settled({"n": node}) == {"n": "10.1.0.1"}
    moved = host("eth0 10.1.0.9/24", route="10.1.0.9", joined="10.1.0.1")
    (line,) = problems({"n": moved})
    assert line.startswith(
        "n joined its cluster as 10.1.0.1, which it does not have any more, but 10.1.0.9: give it that"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("10.1.0.7", "is 10.1.0.7; expected an address that it has: 10.1.0.1, fd00::1"),
        ("node.example", "is node.example; expected an address that it has: 10.1.0.1, fd00::1"),
        ("10.1.0.1,fd00::9", "is 10.1.0.1,fd00::9; expected an address that it has"),
    ],
)
def test_an_address_that_is_none_of_the_hosts(given: str, words: str) -> None:
    (line,) = problems(
        {"n": host("eth0 10.1.0.1/24 fd00::1/64", route="10.1.0.1", kubernetes_node_address=given)}
    )
    assert line.startswith(f"kubernetes_node_address of n {words}")


def test_one_address_for_two_hosts_is_told_of_both() -> None:
    same = host("eth0 10.1.0.1/24", route="10.1.0.1", kubernetes_node_address="10.1.0.1")
    said = problems({"a": same, "b": same})
    assert [line.partition(" all have")[0] for line in said] == ["a and b", "b and a"]


@pytest.mark.parametrize(
    ("name", "variables", "external"),
    [
        ("cp", {}, "10.1.0.1"),
        ("cp.example.org", {}, "cp.example.org"),
        ("192.0.2.9", {}, "192.0.2.9"),
        ("cp", {"ansible_host": "localhost"}, "10.1.0.1"),
        ("cp", {"ansible_host": "::1"}, "10.1.0.1"),
        ("cp.example.org", {"ansible_connection": "local"}, "10.1.0.1"),
    ],
)
def test_where_the_controller_reaches_a_host(name: str, variables: dict[str, Any], external: str) -> None:
    found = node_addresses({name: host("eth0 10.1.0.1/24", route="10.1.0.1", **variables)})
    assert found[name]["external"] == external


def test_what_engines_make_for_themselves_is_no_address_of_a_host() -> None:
    inner = ["lo 127.0.0.1/8", "docker0 172.17.0.1/16", "br-0123456789ab 172.18.0.1/16", "cni0 10.244.1.1/24"]
    inner += [
        "flannel.1 10.244.1.0/32",
        "flannel-v6.1 fd00:10:244:1::/128",
        "lxdbr0 10.79.0.1/24",
        "virbr0 192.168.122.1/24",
    ]
    found = addresses(facts(*inner, "br0 192.0.2.1/24", "bond0.7 10.7.0.1/24"))
    assert [each.interface for each in found] == ["bond0.7", "br0"]
    off = facts("eth0 10.1.0.1/24")
    off["eth0"]["active"] = False
    assert addresses(off) == []


def test_a_host_without_facts_is_left_out() -> None:
    assert node_addresses({"far": {}, "n": host("eth0 10.1.0.1/24", route="10.1.0.1")}).keys() == {"n"}


ROLES = ("host", "kubernetes_node", "control_plane", "cni", "registry")
NAMES = {
    "endpoint": "_control_plane_fixed.controlPlaneEndpoint",
    "advertised": "_control_plane_address",
    "names": "_control_plane_components.apiServer.certSANs",
    "servers": "_control_plane_servers",
    "families": "_control_plane_families",
    "flannel": "_cni_flannel",
    "mtu": "cni_mtu",
    "registry": "registry_address",
    "certified": "_registry_names",
    "external": "_registry_external",
    "kubelet": "_kubernetes_node_kubelet_files['/etc/default/kubelet'].content",
    "sysctls": "_kubernetes_node_sysctls",
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "nat": {"address": "192.168.56.10", "external": "192.168.56.10"},
    "cloud": {"address": "10.0.1.10", "external": "cp.example.org"},
    "ipv6": {"address": "fd00::10", "external": "2001:db8::10"},
    "both": {"address": "10.0.0.4,fd00::4", "external": "203.0.113.4"},
    "mixed": {"address": "fd00::4", "external": "fd00::4"},
}
SUBNETS = {
    "nat": ("10.244.0.0/16", "10.96.0.0/12"),
    "cloud": ("10.244.0.0/16", "10.96.0.0/12"),
    "ipv6": ("fd00:10:244::/56", "fd00:10:96::/112"),
    "both": ("10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/12,fd00:10:96::/112"),
    "mixed": ("10.244.0.0/16", "fd00:10:96::/112,10.96.0.0/12"),
}


@pytest.fixture(scope="module")
def followed(ansible: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Layout to what the roles make of its addresses; one host stands for each."""
    folder = tmp_path_factory.mktemp("followed")
    roles = PLUGINS.parent / "roles"
    answer = {
        "kind": "ConfigMap",
        "metadata": {"name": "kubeadm-config"},
        "data": {"ClusterConfiguration": "{networking: {podSubnet: '{{ control_plane_pod_subnet }}'}}"},
    }
    tasks = [
        {"ansible.builtin.set_fact": {**of("Debian", "13", kubeadm="1.36.3"), "cacheable": True}},
        {
            "ansible.builtin.copy": {
                "content": "{{ {"
                + ", ".join(f"'{key}': {value}" for key, value in NAMES.items())
                + "} | to_json }}",
                "dest": f"{folder}/{{{{ layout }}}}.json",
            }
        },
    ]
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    (folder / "book.yml").write_text(json.dumps([play]))
    hosts = {
        name: {
            "layout": name,
            "_host_settled_addresses": {key: {**known, "mtu": 1400, "problems": []} for key in (name, "nat")},
            "control_plane_pod_subnet": SUBNETS[name][0],
            "control_plane_service_subnet": SUBNETS[name][1],
            "_cni_answer": {"stdout": json.dumps({"items": [answer]})},
        }
        for name, known in LAYOUTS.items()
    }
    # defaults and vars of roles, below what a host's own variables say
    read = [
        yaml.safe_load((roles / role / part / "main.yml").read_text())
        for part in ("defaults", "vars")
        for role in ROLES
    ]
    here = {key: value for found in read for key, value in found.items()}
    here |= {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    groups: dict[str, Any] = {"registry": {"hosts": {"nat": {}}}}  # which each of them takes for itself
    (folder / "hosts.yml").write_text(json.dumps({"all": {"vars": here, "hosts": hosts, "children": groups}}))
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(PLUGINS.parents[3])}
    process.run(
        [ansible, "-i", folder / "hosts.yml", folder / "book.yml"], cwd=folder, env=environment, timeout=120
    )
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in hosts}


def test_nat_is_followed_by_everything(followed: dict[str, Any]) -> None:
    found = followed["nat"]
    assert (found["endpoint"], found["advertised"]) == ("192.168.56.10:6443", "192.168.56.10")
    assert found["kubelet"].endswith("--node-ip=192.168.56.10\n")
    assert found["registry"] == found["external"] == "192.168.56.10:5000"
    assert found["servers"] == {}, "the kubeconfig is good as it is"
    assert found["flannel"] == {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}
    assert found["mtu"] == 1350 and "net.ipv6.conf.all.forwarding" not in found["sysctls"]


def test_inside_a_cloud_one_address_counts_and_outside_the_other(followed: dict[str, Any]) -> None:
    found = followed["cloud"]
    assert found["endpoint"] == "10.0.1.10:6443", "nodes do not go out and in again"
    assert found["names"] == ["cp.example.org", "10.0.1.10"]
    assert found["servers"] == {"server: https://cp.example.org:6443": "server: https://10.0.1.10:6443"}
    assert (found["registry"], found["external"]) == ("10.0.1.10:5000", "cp.example.org:5000")
    assert {"IP:10.0.1.10", "DNS:cp.example.org"} < set(found["certified"])


def test_ipv6_is_written_as_each_wants_it(followed: dict[str, Any]) -> None:
    found = followed["ipv6"]
    assert (found["endpoint"], found["advertised"]) == ("[fd00::10]:6443", "fd00::10")
    assert found["kubelet"].endswith("--node-ip=fd00::10\n")
    assert found["servers"] == {"server: https://[2001:db8::10]:6443": "server: https://[fd00::10]:6443"}
    assert (found["registry"], found["external"]) == ("[fd00::10]:5000", "[2001:db8::10]:5000")
    assert {"IP:fd00::10", "IP:2001:db8::10", "IP:127.0.0.1", "DNS:ipv6"} < set(found["certified"])
    assert found["flannel"] == {
        **{"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd00:10:244::/56"},
        "Backend": {"Type": "vxlan"},
    }
    assert found["mtu"] == 1330 and found["sysctls"]["net.ipv6.conf.all.forwarding"] == "1"


def test_both_families_at_once(followed: dict[str, Any]) -> None:
    found = followed["both"]
    assert (found["endpoint"], found["advertised"]) == ("10.0.0.4:6443", "10.0.0.4")
    assert found["names"] == ["203.0.113.4", "10.0.0.4", "fd00::4"]
    assert found["kubelet"].endswith("--node-ip=10.0.0.4,fd00::4\n")
    assert found["registry"] == "10.0.0.4:5000"
    assert found["flannel"] == {
        **{"Network": "10.244.0.0/16", "EnableIPv6": True, "IPv6Network": "fd00:10:244::/56"},
        "Backend": {"Type": "vxlan"},
    }


def test_families_that_do_not_go_together_are_seen(followed: dict[str, Any]) -> None:
    for name, families in {"nat": "4", "cloud": "4", "ipv6": "6", "both": "46"}.items():
        assert followed[name]["families"] == [families] * 3
    assert followed["mixed"]["families"] == ["6", "4", "64"]
