from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slipway.core.errors import EnvironmentFault, HostError
from slipway.core.schema import Settings
from slipway.hosts.nspawn import network
from slipway.hosts.nspawn.design import design
from slipway.hosts.nspawn.labs import Lab, lab_name


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One network in use, forwarding off, MTU 1450."""
    used = network.Taken(ipaddress.IPv4Network("10.77.0.0/24"), "a VPN")
    monkeypatch.setattr(network, "in_use", lambda: [used])
    monkeypatch.setattr(network, "default_mtu", lambda: 1450)
    monkeypatch.setattr(network, "IP_FORWARD", tmp_path / "ip_forward")
    monkeypatch.setattr(network, "interfaces", lambda: ("eth0", "lo"))
    (tmp_path / "ip_forward").write_text("0\n")


def designed(
    state: Path,
    made: Lab | None = None,
    labs: tuple[Lab, ...] = (),
    cluster: dict[str, object] | None = None,
    **hosts: Any,
) -> Lab:
    settings = Settings.model_validate({"hosts": hosts, "cluster": cluster or {}})
    return design(state, settings.hosts, "trixie", made, labs, cluster=settings.cluster_networks())


def test_a_new_lab_is_named_after_its_folder_and_lies_on_a_free_subnet(tmp_path: Path) -> None:
    lab = designed(tmp_path)
    assert (lab.name, lab.bridge, lab.suite, lab.mtu) == (lab_name(tmp_path), lab.name, "trixie", 1450)
    assert (lab.subnet, lab.gateway, lab.ip_forward_before) == ("10.77.1.0/24", "10.77.1.1", "0")
    assert [(host.name, host.address, host.interface.rpartition("-")[2]) for host in lab.hosts] == [
        ("cp", "10.77.1.2", "1"),
        ("worker-1", "10.77.1.3", "2"),
        ("worker-2", "10.77.1.4", "3"),
    ]
    assert lab.hosts[0].groups == ("control_plane", "docker", "registry")
    assert {host.groups for host in lab.hosts[1:]} == {("worker",)}
    assert len({host.machine_id for host in lab.hosts}) == 3
    assert {host.netns for host in lab.hosts} == {f"{lab.name}-{host.name}" for host in lab.hosts}


def test_a_lab_on_record_is_continued(tmp_path: Path) -> None:
    made = replace(designed(tmp_path), modules_loaded=("vxlan",), sysctls_before={"kernel.panic": "7"})
    again = designed(tmp_path, made, (made,))
    assert again == replace(made, sysctls_before=again.sysctls_before)
    assert again.sysctls_before["kernel.panic"] == "7"
    more = designed(tmp_path, made, (made,), workers=3)
    assert more.hosts[:3] == made.hosts
    assert more.hosts[3].address == "10.77.1.5"
    fewer = designed(tmp_path, made, (made,), workers=0)
    assert fewer.hosts == made.hosts[:1]


@pytest.mark.parametrize(
    ("name", "value"), [("suite", "bookworm"), ("subnet", "10.77.9.0/24"), ("mtu", 1300)]
)
def test_what_running_hosts_cannot_take_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    made = designed(tmp_path)
    with pytest.raises(HostError, match=f"hosts.{name} .*{value}") as refused:
        designed(tmp_path, made, (made,), **{name: value})
    assert "slipway down" in refused.value.action
    same: dict[str, Any] = {"suite": made.suite, "subnet": made.subnet, "mtu": made.mtu}
    assert designed(tmp_path, made, (made,), **{name: same[name]}).hosts == made.hosts


@pytest.mark.parametrize("key", ["pod_subnet", "service_subnet"])
def test_a_lab_and_its_clusters_networks_lie_apart(tmp_path: Path, key: str) -> None:
    assert designed(tmp_path, cluster={key: "10.77.0.0/20"}).subnet == "10.77.16.0/24"
    whole = rf"no free /24 is left in 10\.77\.0\.0/16: cluster\.{key} has 10\.76\.0\.0/14"
    with pytest.raises(EnvironmentFault, match=whole):
        designed(tmp_path, cluster={key: "10.76.0.0/14"})
    for default in ("10.244.7.0/24", "10.100.0.0/16"):
        with pytest.raises(
            EnvironmentFault, match=rf"subnet {default} is in use by cluster\.\w+_subnet \(10\."
        ):
            designed(tmp_path, subnet=default)
    made = designed(tmp_path)
    with pytest.raises(
        HostError, match=rf"{made.subnet} overlaps 10\.77\.0\.0/20, which cluster\.{key} is"
    ) as refused:
        designed(tmp_path, made, (made,), cluster={key: "10.77.0.0/20"})
    assert "slipway down" in refused.value.action


def test_another_lab_keeps_its_subnet_and_knows_what_this_machine_had(tmp_path: Path) -> None:
    first = replace(designed(tmp_path / "first"), sysctls_before={"kernel.panic": "7"})
    (tmp_path / "ip_forward").write_text("1\n")  # the first lab turned it on
    second = designed(tmp_path / "second", None, (first,))
    assert second.subnet == "10.77.2.0/24"
    assert second.ip_forward_before == "0"
    assert second.sysctls_before["kernel.panic"] == "7"
    with pytest.raises(EnvironmentFault, match=r"in use by the lab of .*first"):
        designed(tmp_path / "third", None, (first,), subnet="10.77.1.0/24")


def test_a_subnet_holds_its_hosts_and_a_gateway(tmp_path: Path) -> None:
    full = designed(tmp_path, subnet="10.78.0.0/28", workers=12)
    assert full.hosts[-1].address == "10.78.0.14"  # .15 is the broadcast address
    with pytest.raises(EnvironmentFault, match="too small for 14 hosts"):
        designed(tmp_path, subnet="10.78.0.0/28", workers=13)


def test_a_large_subnet_is_not_counted_through(tmp_path: Path) -> None:
    (machine,) = designed(tmp_path, subnet="172.16.0.0/12", workers=0).hosts
    assert machine.address == "172.16.0.2"


def test_hosts_that_serve_the_model_themselves_are_beside_the_cluster(tmp_path: Path) -> None:
    made = designed(tmp_path, workers=1, model_servers=1)
    assert [(host.name, host.groups) for host in made.hosts[1:]] == [
        ("worker-1", ("worker",)),
        ("model-server-1", ("model_server",)),
    ]


def test_a_host_that_comes_later_takes_an_address_that_is_nobodys(tmp_path: Path) -> None:
    made = designed(tmp_path, workers=1, model_servers=1)
    more = designed(tmp_path, made, (made,), workers=2, model_servers=1)
    assert {host.name: host.address[-1] for host in more.hosts} == {
        "cp": "2",
        "worker-1": "3",
        "model-server-1": "4",
        "worker-2": "5",
    }
    assert len({host.interface for host in more.hosts}) == len(more.hosts)
    other = designed(tmp_path, more, (more,), workers=2, model_servers=0)
    again = designed(tmp_path, other, (other,), workers=3, model_servers=0)
    assert again.hosts[-1].address.endswith(".4"), "what one left behind is free"
