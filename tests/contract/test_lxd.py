"""What backend lxd alone promises: in a project of its own, and nothing of it is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway.clients import ssh
from slipway.core.errors import HostError
from slipway.core.schema import HostsSettings, Settings
from slipway.hosts.lxd.backend import Lxd
from slipway.hosts.lxd.design import MADE

from tests.contract.contract_lab import Lab
from tests.playbooks.bare_host import BareHost

pytestmark = [pytest.mark.lab, pytest.mark.alone]
LXC = "export LXD_CONF=/run/lxc;"
MakeLab = Callable[..., Lab]


@pytest.fixture
def own_lxd(lxd_machine: tuple[BareHost, Path], tmp_path: Path) -> Iterator[MakeLab]:
    """Labs of one test's own, and a machine that is afterwards as it was before."""
    machine, inventory = lxd_machine
    before = state(machine)
    labs: list[Lab] = []

    def make(name: str = "state", **hosts: Any) -> Lab:
        settings = HostsSettings.model_validate(
            {"backend": "lxd", "inventory": inventory, "workers": 0, **hosts}
        )
        labs.append(Lab(Lxd(), Settings(hosts=settings), tmp_path / name))
        return labs[-1]

    yield make
    for lab in labs:
        lab.down()
    assert state(machine) == before


def state(machine: BareHost) -> str:
    """Projects, files on their way, and the kernel's settings that hosts need."""
    return machine.on(f"{LXC} lxc project list --format csv | sort; ls /var/tmp; sysctl fs.inotify")


def test_workers_come_and_go(own_lxd: MakeLab, lxd_machine: tuple[BareHost, Path]) -> None:
    lab = own_lxd(workers=1)
    cp, worker = lab.up().value.hosts
    with ssh.connect(worker) as connection:
        assert connection.run(["getent", "hosts", "cp"]).stdout.split()[0] == cp.address
        # as a kubelet inside does; what else is the machine's cannot be written
        connection.run(["sh", "-c", "echo 7 >/proc/sys/kernel/panic"])
        assert connection.run(["sh", "-c", "echo 7 >/proc/sys/kernel/pid_max"], check=False).returncode
    assert int(Path("/proc/sys/kernel/panic").read_text()) != 7
    lab.settings = Settings(hosts=lab.settings.hosts.model_copy(update={"workers": 0}))
    fewer = lab.up()
    assert fewer.changed and [host.name for host in fewer.value.hosts] == ["cp"]
    assert lab.backend.plan(lab.ctx, lab.settings) == []
    assert [found.state for found in lab.backend.status(lab.ctx)] == ["running"]
    assert any(line.startswith(f"project {lab.name}") for line in lab.down())
    assert lab.down() == []


def test_what_was_half_made_is_made_anew(own_lxd: MakeLab, lxd_machine: tuple[BareHost, Path]) -> None:
    lab, machine = own_lxd(), lxd_machine[0]
    lab.up()
    machine.on(
        f"{LXC} lxc --project {lab.name} config unset {lab.name}-cp {MADE}; lxc --project {lab.name} stop --force {lab.name}-cp"
    )
    assert lab.up().changed
    found = json.loads(machine.on(f"{LXC} lxc query '/1.0/instances?recursion=1&project={lab.name}'"))
    assert [(one["name"], one["status"]) for one in found] == [(f"{lab.name}-cp", "Running")]


def test_a_stopped_host_is_started_with_its_files(
    own_lxd: MakeLab, lxd_machine: tuple[BareHost, Path]
) -> None:
    lab = own_lxd()
    (host,) = lab.up().value.hosts
    with ssh.connect(host) as connection:
        connection.run(["touch", "/root/kept"])
    lxd_machine[0].on(f"{LXC} lxc --project {lab.name} stop --force {lab.name}-cp")
    assert lab.up().changed == 1
    with ssh.connect(host) as connection:
        connection.run(["test", "-e", "/root/kept"])


def test_a_lab_whose_state_folder_is_gone_is_reclaimed(own_lxd: MakeLab) -> None:
    lost = own_lxd("lost")
    lost.up()
    shutil.rmtree(lost.folder)
    other = own_lxd("other")
    other.up()
    assert any("reclaiming project" in line for line in other.said)
    assert lost.down() == []


def test_a_machine_without_lxd_is_told(tmp_path: Path, made_lab: tuple[Lab, Any]) -> None:
    from tests.contract.contract_lab import inventory

    path = inventory(made_lab[1], tmp_path, ("lxd",))
    settings = HostsSettings.model_validate({"backend": "lxd", "inventory": path, "workers": 0})
    with pytest.raises(HostError, match="there is no LXD on cp") as caught:
        Lab(Lxd(), Settings(hosts=settings), tmp_path / "state").up()
    assert "playbooks/lxd.yml" in caught.value.action
