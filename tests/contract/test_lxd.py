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
from slipway.hosts.formats import writing
from slipway.hosts.lxd.backend import Lxd
from slipway.hosts.lxd.design import MADE
from slipway.hosts.nspawn.backend import Nspawn

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


@pytest.mark.soak
def test_a_root_as_an_image_is_launched_by_anybody(
    lxd_machine: tuple[BareHost, Path], tmp_path: Path
) -> None:
    machine = lxd_machine[0]
    settings = Settings.model_validate({"hosts": {"workers": 0, "golden": False}})
    root, _ = Nspawn().bake(machine.ctx, settings)
    file = writing.write(machine.ctx, settings, root, "lxd", tmp_path / "node.tar.gz").file
    before = state(machine)
    try:
        with ssh.connect(machine.host) as connection:
            connection.stream_in(["sh", "-c", "cat >/root/node.tar.gz"], file, timeout=300)
        machine.on(f"{LXC} lxc image import /root/node.tar.gz --alias node", timeout=300)
        told = json.loads(machine.on(f"{LXC} lxc query /1.0/images?recursion=1"))
        (properties,) = (one["properties"] for one in told if one["aliases"][0]["name"] == "node")
        assert (properties["os"], properties["release"]) == ("debian", "trixie")
        # as everybody launches one, but for what a kernel like this machine's asks of a container's systemd
        machine.on(
            f"{LXC} lxc launch node away --config security.privileged=true --config security.nesting=true"
        )
        answers = "ssh-keyscan -T 5 -t ed25519 $(lxc list away --columns 4 --format csv | cut -d' ' -f1)"
        key = machine.on(
            f"{LXC} for n in $(seq 60); do {answers} 2>/dev/null | grep . && break; sleep 1; done"
        )
        assert "ssh-ed25519" in key
        inside = f"{LXC} lxc exec away --"
        assert len(machine.on(f"{inside} cat /etc/machine-id").strip()) == 32
        assert "nameserver" in machine.on(f"{inside} cat /etc/resolv.conf")
    finally:
        machine.on(f"{LXC} lxc delete --force away; lxc image delete node; rm -f /root/node.tar.gz; true")
    assert state(machine) == before
