"""A machine such as a cloud gives it, with its own kernel and systemd: who may log in there and become root."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slipway.clients import ssh
from slipway.core.errors import HostError
from slipway.core.types import Hosts

from tests.contract import test_backends as contract
from tests.contract.contract_lab import Lab
from tests.vm.uml_kernel import Kernel
from tests.vm.vm_lab import Machine, vm_lab
from tests.vm.vm_owner import Owner, owner, two_owners

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(1800)]

PROMISES = [
    function
    for name, function in vars(contract).items()
    if name.startswith("test_") and "ready" in inspect.signature(function).parameters
]
USERS = ("debian", "ops")


@pytest.fixture(scope="module")
def machine(kernel: Kernel, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with vm_lab(tmp_path_factory.mktemp("vm"), kernel, image) as lab:
        yield lab.boot()


@pytest.fixture(scope="module")
def owners(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Owner]]:
    with two_owners(machine, tmp_path_factory.mktemp("owners"), ["docker"]) as found:
        yield found


@pytest.fixture(scope="module")
def hosts(owners: dict[str, Owner]) -> dict[str, Hosts]:
    return {user: each.up() for user, each in owners.items()}


def test_it_is_a_machine_of_its_own_as_its_user_data_says(machine: Machine) -> None:
    asked = "cat /proc/1/comm; stat -fc %T /sys/fs/cgroup; cat /etc/hostname; hostname"
    assert machine.on(asked).split() == ["systemd", "cgroup2fs", machine.host.name, machine.host.name]
    assert machine.on("uname -r").strip() != os.uname().release
    controllers = machine.on("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert {"cpu", "io", "memory", "pids"} <= set(controllers)
    assert machine.host.address in machine.on("ip -4 address; netplan get ethernets")
    assert "stub-resolv.conf" in machine.on("readlink /etc/resolv.conf")
    assert machine.on("systemctl --failed --plain --no-legend") == ""


@pytest.mark.parametrize("user", USERS)
def test_a_user_becomes_root_by_sudo(user: str, hosts: dict[str, Hosts]) -> None:
    (host,) = hosts[user].hosts
    assert host.user == user
    with ssh.connect(host) as connection:
        assert connection.run(["id", "-un"]).stdout == "root\n"
        assert connection.run(["cat"], input="what it reads\n").stdout == "what it reads\n"


def test_without_its_password_a_user_whom_sudo_asks_is_refused_in_words(
    machine: Machine, tmp_path: Path
) -> None:
    for given in ({}, {"ansible_become_password": "another"}):
        with pytest.raises(HostError, match="commands as root do not") as refused:
            owner(machine, tmp_path, "ops", ["docker"], **given).up()
        assert "ansible_become_password" in refused.value.action


def test_the_password_is_in_no_file_but_the_owners_and_in_no_argument(
    owners: dict[str, Owner], hosts: dict[str, Hosts], machine: Machine
) -> None:
    state = owners["ops"].folder / ".slipway"
    files = [path for path in state.rglob("*") if path.is_file()]
    assert files and not [path for path in files if machine.password.encode() in path.read_bytes()]
    with ssh.connect(hosts["ops"].hosts[0]) as connection:
        assert machine.password not in connection.run(["ps", "-eo", "args"]).stdout


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__.removeprefix("test_"))
def test_it_keeps_what_every_backend_promises(
    user: str, promise: Callable[..., None], owners: dict[str, Owner], hosts: dict[str, Hosts], tmp_path: Path
) -> None:
    ready: tuple[Lab, Hosts] = owners[user].lab, hosts[user]
    wanted: dict[str, Any] = {"ready": ready, "tmp_path": tmp_path}
    promise(**{name: wanted[name] for name in inspect.signature(promise).parameters})


def test_nobody_may_log_in_as_root(machine: Machine) -> None:
    with pytest.raises(ssh.LoginRefused), ssh.connect(replace(machine.host, user="root")) as connection:
        connection.run(["true"])
