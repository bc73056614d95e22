from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from slipway.clients import passwords, written_inventory
from slipway.clients.ansible_inventory import Machine
from slipway.core.types import Host, Hosts

HOSTS = Hosts(
    "nspawn",
    (
        Host(
            "cp",
            "10.77.2.2",
            "root",
            "ssh-ed25519 AAAA",
            ("control_plane", "docker", "registry"),
            identity=Path("/state/ssh/id%ed25519"),
        ),
        Host("w", "10.77.2.3", "admin", "ssh-ed25519 BBBB", ("worker",), port=2222),
    ),
)


def read(**groups: dict[str, object]) -> dict[str, object]:
    text = written_inventory.inventory(
        HOSTS, Path("/state with blank/known_hosts"), {"kube_version": "1"}, groups
    )
    everything: dict[str, object] = yaml.safe_load(text)["all"]
    return everything


def test_every_host_and_group() -> None:
    everything = read(worker={"images": ["a"]})
    assert everything["hosts"] == {
        "cp": {
            "ansible_host": "10.77.2.2",
            "ansible_port": 22,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": "/state/ssh/id%%ed25519",
            "ansible_ssh_extra_args": "-o IdentitiesOnly=yes",
        },
        "w": {"ansible_host": "10.77.2.3", "ansible_port": 2222, "ansible_user": "admin"},
    }
    assert everything["children"] == {
        "control_plane": {"hosts": {"cp": {}}},
        "worker": {"hosts": {"w": {}}, "vars": {"images": ["a"]}},
        "registry": {"hosts": {"cp": {}}},
        "docker": {"hosts": {"cp": {}}},
        "lxd": {"hosts": {}},
        "model_server": {"hosts": {}},
    }


def test_host_keys_are_checked_against_the_pinned_ones_alone() -> None:
    variables = read()["vars"]
    assert isinstance(variables, dict)
    words = variables["ansible_ssh_common_args"]
    assert "-o StrictHostKeyChecking=yes" in words
    assert "-o GlobalKnownHostsFile=/dev/null" in words
    assert variables["ansible_host_key_checking"] is True  # else Ansible says "no" before our "yes"
    assert """'UserKnownHostsFile="/state with blank/known_hosts"'""" in words
    assert variables["kube_version"] == "1"


THEIRS = Hosts(
    "ssh",
    (
        Host("cp", "192.0.2.1", "root", "ssh-ed25519 AAAA", ("control_plane",)),
        Host(
            "w",
            "10.0.0.2",
            "joe",
            "",
            ("worker",),
            alias="inner",
            options=("-o", "StrictHostKeyChecking=yes", "-F", "/lab/cfg"),
            asks=("become",),
        ),
        Host("open", "10.0.0.3", "joe", "", (), options=("-o", "StrictHostKeyChecking=no")),
    ),
    Path("/lab/inventory.yml"),
)
MACHINES = (
    Machine("cp", ("control_plane",), "192.0.2.1", configured=frozenset({"DEFAULT_TIMEOUT"})),
    Machine("w", ("worker",), "inner", ssh_args="-C -F cfg"),
    Machine("open", (), "open", host_key_checking=False),
)


def added() -> dict[str, object]:
    text = written_inventory.addition(
        THEIRS, MACHINES, Path("/state/known_hosts"), {"kube_version": "1"}, {"worker": {"images": ["a"]}}
    )
    everything: dict[str, object] = yaml.safe_load(text)["all"]
    return everything


def test_what_is_added_to_an_inventory_says_nothing_of_how_machines_are_reached() -> None:
    everything = added()
    assert everything["vars"] == {
        "ansible_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "kube_version": "1",
    }, "and their own timeout stays"
    hosts, children = everything["hosts"], everything["children"]
    assert isinstance(hosts, dict) and isinstance(children, dict)
    assert {name for host in hosts.values() for name in host} == {
        "ansible_host_key_checking",
        "slipway_ssh_args",
        "ansible_become_password",
    }
    assert children["worker"] == {"hosts": {"w": {}}, "vars": {"images": ["a"]}}
    assert set(children["slipway"]["hosts"]) == {"cp", "w", "open"}


def test_which_key_counts_comes_before_the_owners_words_and_these_stay() -> None:
    hosts = added()["hosts"]
    assert isinstance(hosts, dict)
    words = {name: shlex.split(host["slipway_ssh_args"]) for name, host in hosts.items()}
    assert words["cp"][:4] == [
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        'UserKnownHostsFile="/state/known_hosts"',
    ]
    assert words["w"] == ["-o", "StrictHostKeyChecking=yes", "-C", "-F", "cfg"]
    assert "StrictHostKeyChecking" not in hosts["open"]["slipway_ssh_args"]
    assert "ControlMaster=auto" in words["cp"] and "ControlMaster=auto" in words["open"]
    assert [host["ansible_host_key_checking"] for host in hosts.values()] == [True, True, False]


def test_a_password_that_a_person_said_is_named_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_told", {})
    passwords.tell("become", "secret")
    hosts = added()["hosts"]
    assert isinstance(hosts, dict) and "secret" not in str(hosts)
    assert "ansible_become_password" not in hosts["cp"]
    (name,) = passwords.environment()
    assert name in hosts["w"]["ansible_become_password"]
