"""site.yml, verify.yml and reset.yml on real hosts, in the order in which people meet them.

One small lab serves the whole module: a control plane with Docker and the registry, and one worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.clients import ansible_play, ssh
from infra.clients.ansible_play import Played
from infra.core import process
from infra.core.context import Context
from infra.core.errors import ProvisionError
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Hosts
from infra.hosts import MakeHosts, take_down
from infra.provision import Provision

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
SETTINGS = Settings.model_validate({"hosts": {"workers": 1}})
UNITS = ("containerd", "docker", "docker-registry", "kubelet")
# What a run may not touch when it says that it changes nothing.
TREES = "/etc /usr/bin /usr/lib/systemd /var/lib/dpkg /var/lib/apt/lists"


@dataclass
class Lab:
    ctx: Context
    hosts: Hosts

    def on(self, name: str, script: str) -> str:
        """What a shell script prints on a host."""
        host = next(host for host in self.hosts.hosts if host.name == name)
        with ssh.connect(host, self.hosts.identity) as connection:
            return connection.run(["sh", "-c", script], timeout=120).stdout

    def mark(self) -> None:
        for host in self.hosts.hosts:
            self.on(host.name, "touch /run/slipway-mark; sleep 0.1")

    def touched(self) -> dict[str, str]:
        """Files written since `mark`, by host."""
        find = f"find {TREES} -newer /run/slipway-mark -type f ! -name lock ! -name 'lock-*'"
        found = {host.name: self.on(host.name, find).strip() for host in self.hosts.hosts}
        return {name: files for name, files in found.items() if files}

    def started(self) -> dict[str, str]:
        """When each unit was last started."""
        show = f"systemctl show --property=Id,ActiveState,ActiveEnterTimestampMonotonic {' '.join(UNITS)}"
        return {host.name: self.on(host.name, show) for host in self.hosts.hosts}

    def play(self, playbook: str, **extra: object) -> Played:
        return ansible_play.play(
            ROOT / "playbooks" / playbook,
            self.ctx.state.inventory,
            self.ctx.evidence(f"{playbook}.log"),
            extra=extra,
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("provision")
    ctx = Context(State(root / ".slipway"), root / "run", ROOT)
    try:
        yield Lab(ctx, MakeHosts().run(ctx, SETTINGS).value)
    finally:
        take_down(ctx)


def test_a_dry_run_on_bare_hosts_says_what_would_happen_and_does_nothing(lab: Lab) -> None:
    lab.mark()
    lines = Provision().plan(lab.ctx, SETTINGS, lab.hosts)
    assert lab.touched() == {}
    text = "\n".join(lines)
    assert "would install docker.io" in text and "would install docker-registry" in text
    assert "cp: control_plane : Start the control plane with kubeadm" in text
    assert "would join the cluster of cp" in text


def test_site_makes_a_cluster(lab: Lab) -> None:
    outcome = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert outcome.changed > 0
    assert [(node.name, node.role) for node in outcome.value.nodes] == [
        ("cp", "control_plane"),
        ("worker-1", "worker"),
    ]
    assert outcome.value.registry is not None
    password = (lab.ctx.state.registry / "password").read_text().strip()
    assert password
    said = "".join(path.read_text(errors="replace") for path in lab.ctx.run.rglob("*") if path.is_file())
    assert "PLAY RECAP" in said and password not in said
    assert lab.ctx.state.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_second_run_changes_nothing_and_restarts_nothing(lab: Lab, ansible: str) -> None:
    lab.mark()
    before = lab.started()
    again = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    assert again.changed == 0, [play.changed_tasks for play in again.value.plays.values()]
    assert lab.started() == before
    assert Provision().plan(lab.ctx, SETTINGS, lab.hosts) == []
    # by hand, from the folder above: without ansible.cfg
    done = process.run([ansible, "-i", lab.ctx.state.inventory, "playbooks/site.yml"], cwd=ROOT, timeout=900)
    assert done.stdout.count("changed=0 ") == 2, done.stdout[-2000:]
    assert lab.started() == before
    assert lab.touched() == {}


def test_it_works_even_where_docker_closed_the_forward_chain(lab: Lab) -> None:
    """Docker sets this policy where it is the one to switch forwarding on."""
    lab.on("cp", "iptables --policy FORWARD DROP")
    assert lab.play("verify.yml").changed == 0


def test_a_failing_task_is_told_with_host_task_and_cause(lab: Lab) -> None:
    before = lab.on("cp", "cat /etc/docker/daemon.json")
    with pytest.raises(ProvisionError) as caught:
        lab.play("site.yml", docker_daemon={"no-such-key": True})
    assert caught.value.where == "cp"
    assert "docker : Configure the daemon" in caught.value.what
    assert "no-such-key" in caught.value.tail
    assert "PLAY RECAP" in caught.value.evidence[0].read_text()
    assert lab.on("cp", "cat /etc/docker/daemon.json") == before, "what does not validate is not put in place"


def test_preflight_tells_all_problems_before_anything_changes(lab: Lab) -> None:
    lab.mark()
    with pytest.raises(ProvisionError) as caught:
        lab.play("site.yml", kube_version="1.35.0", registry_password_file="/none/such")
    log = caught.value.evidence[0].read_text()
    assert "registry_password_file /none/such does not exist" in log
    assert log.count("runs Kubernetes 1.36.3, asked for 1.35.0") >= 2, "from both hosts"
    assert "TASK [docker : Install" not in log
    assert lab.touched() == {}


def test_what_was_cut_short_or_stopped_is_mended(lab: Lab) -> None:
    lab.on("worker-1", "touch /etc/kubernetes/kubeadm-unfinished")
    lab.on("cp", "systemctl stop docker-registry")
    mended = Provision().run(lab.ctx, SETTINGS, lab.hosts)
    plays = mended.value.plays
    assert plays["cp"].changed_tasks[:1] == ("registry : Run the registry",)
    assert "kubernetes_node : Reset the node" in plays["worker-1"].changed_tasks
    assert "worker : Join with kubeadm" in plays["worker-1"].changed_tasks
    assert lab.play("verify.yml").changed == 0


def test_reset_asks_first_then_leaves_bare_hosts_that_site_takes_again(lab: Lab) -> None:
    with pytest.raises(ProvisionError, match="See that it is meant"):
        lab.play("reset.yml")
    lab.play("reset.yml", reset_confirmed=True)
    for host in lab.hosts.hosts:
        left = lab.on(
            host.name,
            "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' containerd docker.io docker-registry 2>/dev/null"
            " | grep ' installed'; ls -d /etc/kubernetes /etc/docker /usr/bin/kubelet /var/lib/etcd 2>/dev/null;"
            " iptables-save | grep -E 'KUBE-|FLANNEL-|CNI-|DOCKER'; ls /sys/class/net | grep -E 'cni0|flannel|docker0'; true",
        )
        assert left == "", host.name
    assert len(Provision().run(lab.ctx, SETTINGS, lab.hosts).value.nodes) == 2
    assert lab.play("verify.yml").changed == 0
