from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from slipway.core.errors import HostError
from slipway.core.schema import HostsSettings
from slipway.hosts.lxd.design import Bridge, LxdHost, design, profile, raw
from slipway.hosts.naming import groups, names

BRIDGE = Bridge("lxdbr0", ipaddress.IPv4Interface("10.79.0.1/24"), frozenset({"10.79.0.254"}))


def settings(**values: Any) -> HostsSettings:
    return HostsSettings.model_validate({"backend": "lxd", **values})


def test_hosts_take_addresses_that_are_nobodys_from_the_end() -> None:
    hosts = design(settings(workers=1, model_servers=1), BRIDGE, {})
    assert [(host.name, host.address, host.groups) for host in hosts] == [
        ("cp", "10.79.0.253", ("control_plane", "docker", "registry")),
        ("worker-1", "10.79.0.252", ("worker",)),
        ("model-server-1", "10.79.0.251", ("model_server",)),
    ]
    assert len({host.machine_id for host in hosts}) == 3


def test_hosts_that_are_there_keep_what_they_have() -> None:
    there = {"worker-1": LxdHost("worker-1", "10.79.0.9", ("worker",), "a" * 32)}
    hosts = design(settings(workers=2), BRIDGE, there)
    assert hosts[1] == there["worker-1"]
    assert [host.address for host in (hosts[0], hosts[2])] == ["10.79.0.253", "10.79.0.252"]


def test_a_bridge_that_is_too_small_is_told() -> None:
    small = Bridge("lxdbr0", ipaddress.IPv4Interface("10.79.0.1/30"))
    assert len(design(settings(workers=0), small, {})) == 1
    with pytest.raises(HostError, match=r"no address left in 10\.79\.0\.0/30") as caught:
        design(settings(workers=1), small, {})
    assert "lxd_bridge_ipv4" in caught.value.action


def test_every_name_has_its_groups() -> None:
    wanted = settings(workers=12, model_servers=2)
    assert [groups(name) for name in names(wanted)[-3:]] == [
        ("worker",),
        ("model_server",),
        ("model_server",),
    ]


def test_a_host_has_its_address_and_what_engines_need() -> None:
    words = raw(LxdHost("cp", "10.79.0.250", (), "a" * 32), BRIDGE).splitlines()
    assert "lxc.net.0.ipv4.address=10.79.0.250/24" in words
    assert "lxc.net.0.ipv4.gateway=10.79.0.1" in words
    assert "lxc.cap.drop=" in words


def test_a_profile_has_the_devices_that_are_there() -> None:
    found = profile("default", BRIDGE, ["/dev/kmsg", "/usr/lib/modules"])
    assert found["config"] == {"security.privileged": "true", "security.nesting": "true"}
    assert found["devices"] == {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "name": "eth0", "network": "lxdbr0"},
        "dev-kmsg": {"type": "unix-char", "source": "/dev/kmsg", "path": "/dev/kmsg"},
        "usr-lib-modules": {
            "type": "disk",
            "source": "/usr/lib/modules",
            "path": "/usr/lib/modules",
            "readonly": "true",
        },
    }
