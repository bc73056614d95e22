"""One machine such as a cloud gives it becomes control plane, Docker host and registry, and bare again.

By users who are not root: debian, whom sudo asks for nothing, and ops, whose password is in a vault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from slipway.clients.kubectl import Kubectl
from slipway.core.context import Context
from slipway.core.state import State
from slipway.core.types import Cluster, Hosts
from slipway.provision import stage

from tests.playbooks.by_hand import by_hand
from tests.vm.uml_kernel import Kernel
from tests.vm.vm_lab import ROOT, Machine, vm_lab
from tests.vm.vm_owner import Owner, two_owners

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(3600)]

GROUPS = ("control_plane", "docker", "registry")
UNITS = ("containerd", "docker", "docker-registry", "docker-registry-pull", "kubelet")
# What is left of any layer: packages, files, rules, network devices
LEFT = (
    "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' containerd docker.io docker-registry 2>/dev/null"
    " | grep ' installed'; ls -d /etc/kubernetes /etc/docker /usr/bin/kubelet /var/lib/etcd 2>/dev/null;"
    " iptables-save 2>/dev/null | grep -E 'KUBE-|FLANNEL-|CNI-|DOCKER'; ls /sys/class/net | grep -E 'cni0|flannel|docker0';"
    " true"
)


@dataclass
class Site:
    """The machine, and its owners' view of it by user."""

    machine: Machine
    owners: dict[str, Owner]
    state: State

    @property
    def ctx(self) -> Context:
        return Context(self.state, self.owners["debian"].folder / "run", ROOT)

    def hosts(self, user: str) -> Hosts:
        return self.owners[user].up(self.ctx)

    def provision(self) -> tuple[Cluster, int]:
        """As user debian: the cluster, and how many tasks changed something."""
        done = stage.Provision().run(self.ctx, self.owners["debian"].settings, self.hosts("debian"))
        return done.value, done.changed

    def changed_by(self, playbook: str, user: str) -> int:
        settings = self.owners[user].settings
        return stage.play(self.ctx, settings, self.hosts(user), playbook=playbook).changed

    def started(self) -> str:
        """When each unit was last started."""
        return self.machine.on(
            f"systemctl show --property=Id,ActiveState,ActiveEnterTimestampMonotonic {' '.join(UNITS)}"
        )


@pytest.fixture(scope="module")
def site(built_kernel: Kernel, node_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with vm_lab(tmp_path_factory.mktemp("vm-site"), built_kernel, node_image) as lab:
        machine = lab.boot()
        with two_owners(machine, tmp_path_factory.mktemp("site-owners"), GROUPS) as owners:
            yield Site(machine, owners, State(owners["debian"].folder / ".slipway"))


def test_its_kernel_has_what_kubernetes_needs(site: Site) -> None:
    assert site.machine.on("nproc").split() == ["2"]
    assert "cpuset" in site.machine.on("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert "cpu MHz" in site.machine.on("cat /proc/cpuinfo")
    assert site.machine.on("systemctl --failed --plain --no-legend") == ""


def test_site_makes_it_a_cluster_docker_host_and_registry(site: Site) -> None:
    assert site.machine.on(LEFT) == ""
    cluster, changed = site.provision()
    assert changed > 0
    name, address = site.machine.host.name, site.machine.host.address
    assert [(node.name, node.role, node.address) for node in cluster.nodes] == [
        (name, "control_plane", address)
    ]
    assert cluster.registry is not None and cluster.registry.address == f"{address}:5000"
    (node,) = Kubectl.of(cluster).get("nodes")["items"]
    (ready,) = [each for each in node["status"]["conditions"] if each["type"] == "Ready"]
    assert ready["status"] == "True", ready
    assert node["status"]["nodeInfo"]["kernelVersion"] == site.machine.on("uname -r").strip()
    told = json.loads(site.machine.on("docker info --format '{{json .}}'"))
    assert (told["CgroupDriver"], told["CgroupVersion"]) == ("systemd", "2")
    assert site.machine.on(f"systemctl is-active {' '.join(UNITS)}").split() == ["active"] * len(UNITS)


@pytest.mark.parametrize("user", ["debian", "ops"])
def test_verify_finds_it_well_and_changes_nothing(user: str, site: Site) -> None:
    assert site.changed_by("verify", user) == 0


def test_a_second_run_changes_nothing_and_restarts_nothing(site: Site) -> None:
    before = site.started()
    cluster, changed = site.provision()
    assert changed == 0, [play.changed_tasks for play in cluster.plays.values()]
    assert site.started() == before


def test_no_password_is_in_the_state_folder(site: Site) -> None:
    files = [path for path in site.state.root.rglob("*") if path.is_file()]
    secret = site.machine.password.encode()
    assert files and not [path for path in files if secret in path.read_bytes()]


def test_reset_leaves_it_bare(site: Site, tmp_path: Path) -> None:
    inventories = [site.state.inventory, site.owners["debian"].inventory]
    with by_hand(tmp_path, "reset", "reset.yml", inventories, "--extra-vars", "reset_confirmed=true") as run:
        assert "failed=0" in run.ends()
    assert site.machine.on(LEFT) == ""
