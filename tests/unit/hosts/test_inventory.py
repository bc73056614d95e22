"""What Ansible tells of an inventory's machines, whatever it lets a variable be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway.clients import ansible_inventory
from slipway.clients.ansible_inventory import Machine, VaultClosed, machines_of
from slipway.core.errors import UsageError
from slipway.hosts import resolving

NOTHING = dict.fromkeys(ansible_inventory._OPTIONS)
ODD = [
    ({"host": ["192.0.2.1"]}, "ansible_host is a list"),
    ({"remote_user": {"name": "joe"}}, "ansible_user is a mapping"),
    ({"host": "192.0.2.1\n\x1b[2J"}, r"ansible_host is '192.0.2.1\n\x1b[2J'"),
    ({"host_key": ["ssh-ed25519 AAAA"]}, "slipway_host_key is a list"),
    ({"port": 0}, "ansible_port is 0, expected 1 to 65535"),
    ({"port": [22]}, "ansible_port is a list"),
    ({"port": True}, "ansible_port is True, expected 1 to 65535"),
    ({"become_pass": "two\nlines"}, "ansible_become_password is not printable"),
]


def told(groups: list[str], position: int = 0, **said: Any) -> dict[str, Any]:
    """What machines.yml tells of one machine."""
    options = {**NOTHING, **{name: value for name, value in said.items() if name in NOTHING}}
    facts = {"connection": "ssh", "become_method": "sudo", "become": True, "host_key": None}
    facts |= {name: value for name, value in said.items() if name in facts}
    return {
        "msg": {
            "position": position,
            "groups": groups,
            "options": options,
            "variables": ["x"],
            "configured": [],
            **facts,
        }
    }


def answer(**hosts: Any) -> dict[str, Any]:
    return {"plays": [{"tasks": [{"hosts": hosts}]}]} if hosts else {"plays": []}


def machines(**hosts: Any) -> tuple[Machine, ...]:
    return machines_of(answer(**hosts), Path("inventory.yml"))


@pytest.mark.parametrize(("said", "problem"), ODD)
def test_what_is_no_plain_value_is_told_by_machine_and_variable(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        machines(cp=told(["control_plane"], **said))
    assert refused.value.what.startswith(f"inventory.yml cannot be used: cp: {problem}")
    assert refused.value.what.isprintable()


def test_machines_are_in_the_inventorys_order_and_in_slipways_groups() -> None:
    found = machines(
        w=told(["worker", "rack-7"], 1, host="192.0.2.2", port="2222"),
        cp=told(["control-plane", "docker"], 0, remote_user="joe", password="secret"),
    )
    assert [(each.name, each.groups, each.host, each.port, each.user) for each in found] == [
        ("cp", ("control_plane", "docker"), "cp", None, "joe"),
        ("w", ("worker",), "192.0.2.2", 2222, None),
    ]
    assert found[0].password == "secret" and "secret" not in repr(found)


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        ({}, "no host is in one of the groups control_plane"),
        ({"w": told(["worker"])}, "none in control_plane"),
        ({"cp": {"msg": "Task failed: The value 'many' is no int"}}, "cp: The value 'many' is no int"),
    ],
)
def test_a_bad_inventory_is_refused_with_the_form(hosts: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        machines(**hosts)
    assert "control_plane: {hosts:" in refused.value.action
    assert refused.value.exit_code == 2


def test_a_vault_that_nobody_opens_is_told_as_that() -> None:
    failed = {"msg": "Task failed: Attempting to decrypt but no vault secrets found."}
    with pytest.raises(VaultClosed):
        machines(cp=failed, w=told(["worker"]))


def machine(**more: Any) -> Machine:
    return Machine("cp", ("control_plane",), "192.0.2.10", **more)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"connection": "community.docker.docker"}, "ansible_connection is community.docker.docker"),
        ({"connection": "paramiko_ssh"}, "ansible_connection is paramiko_ssh, expected ssh or local"),
        ({"ssh_executable": "/opt/ssh"}, "ansible_ssh_executable is /opt/ssh"),
        ({"become_user": "app"}, "ansible_become_user is app, expected root"),
        ({"user": "joe", "become": False}, "ansible_become is false"),
        ({"user": "joe", "become_method": "su"}, "root is taken by su"),
        ({"user": "joe", "become_exe": "/opt/sudo"}, "root is taken by sudo /opt/sudo"),
        ({"ssh_common_args": "-o UserKnownHostsFile='x"}, "ansible_ssh_common_args is no line of words"),
    ],
)
def test_what_slipway_cannot_do_is_refused_by_name(
    more: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every machine at once, before anything is tried: no process is started here."""
    monkeypatch.setattr(ansible_inventory, "machines", lambda _inventory: (machine(**more), machine(**more)))
    with pytest.raises(UsageError, match=r"inventory.yml cannot be used: cp: ") as refused:
        resolving.hosts_of(Path("inventory.yml"))
    assert problem in refused.value.what and problem in refused.value.tail


def test_what_root_does_not_need_is_not_asked_of_it() -> None:
    assert list(resolving._refused(machine(user="root", become=False, become_method="su"))) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-F ssh.cfg", ["-F", "/lab/ssh.cfg"]),
        ("-Fssh.cfg -C", ["-F", "/lab/ssh.cfg", "-C"]),
        ("-F none", ["-F", "none"]),
        ("-F /etc/cfg", ["-F", "/etc/cfg"]),
        ("-i keys/id -J bastion", ["-i", "/lab/keys/id", "-J", "bastion"]),
        ("-o Compression=yes", ["-o", "Compression=yes"]),
        ("-oproxyjump=a,b", ["-o", "proxyjump=a,b"]),
        ("-o 'ProxyCommand=ssh -W %h:%p b'", ["-o", "ProxyCommand=ssh -W %h:%p b"]),
        ("-o UserKnownHostsFile=/dev/null", ["-o", 'UserKnownHostsFile="/dev/null"']),
        ("-o 'IdentityFile ~/.ssh/id'", ["-o", 'IdentityFile="~/.ssh/id"']),
    ],
)
def test_files_of_an_inventorys_words_are_beside_it(text: str, words: list[str]) -> None:
    assert list(resolving._words(text, Path("/lab/inventory.yml"))) == words
