"""Unusual hosts, whose setting up is ended again and again on its way: it comes to the same end.

They have two cards each and no IPv6, the last one's own name has capitals and dots, and it has swap. First a host with a
model server, then one with Docker and LXD, then a cluster.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from slipway.clients import ansible_play, ssh
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host, Hosts
from slipway.hosts.nspawn.labs import lab_name
from slipway.hosts.stage import MakeHosts, take_down
from slipway.provision import stage

from tests.lab_traces import traces
from tests.playbooks.bare_host import BareHost
from tests.playbooks.by_hand import PLAYBOOKS, ByHand, by_hand
from tests.playbooks.model_servers import KEEP_RUNTIME, offer, quick_model, variables
from tests.standins.apt_repository import SigningKey
from tests.standins.tensorflow_packages import PROGRAM

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(7200)]

ROOT = Path(__file__).parents[2]
SEED = 12
TWO_CARDS = (
    "ip link add second type dummy; ip address add 192.168.77.{number}/24 dev second; ip link set second up"
)
NO_IPV6 = "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"
NAME = "echo Worker.One.Example >/etc/hostname; hostname Worker.One.Example"
# What the kernel would tell; swap itself is the machine's, which all hosts of a lab share
SWAP = (
    "printf 'Filename\\tType\\tSize\\tUsed\\tPriority\\n/swap file 1048572 0 -2\\n' >/run/swaps;"
    " mount --bind /run/swaps /proc/swaps"
)
# Nothing goes out of the host, for longer than Ansible's SSH waits
CUT = "ip rule add pref 0 blackhole; sleep 120; ip rule del pref 0 blackhole"
# In a moment, when the connection that asks for it has its answer
SOON = "systemd-run --quiet --on-active=1 --timer-property=AccuracySec=100ms"


# What a dry run names to what the real one does then: what it would need for these is not there yet
REALLY = {
    "apt_source : Name the packages that would be installed": ("apt_source : Install packages",),
    # which a venv is made in, by packages that are noted
    "model_server : Make room": (
        *("apt_source : Write down which packages there are", "apt_source : Write down which packages came"),
        *("model_server : Make room", "model_server : Copy the wheels that are here"),
        *("model_server : Make the venv", "model_server : Compile what is loaded"),
        "model_server : Note what is installed",
    ),
    "model_server : Let the version appear": (
        *("model_server : Copy the model", "model_server : Let the version appear"),
    ),
    # and the restart that it is for, which no later run is told of
    "model_server : Write the unit": ("model_server : Restart the model server",),
    "docker : Configure the daemon": ("docker : Restart docker",),
    "worker : Name the join that would happen": (
        *("worker : Configure the join, and mark it as unfinished", "worker : Join with kubeadm"),
    ),
}
# and tasks of the roles that a dry run cannot look into before there is a cluster
UNSEEN = {
    "registry": ("registry : Set the logins", "registry : Configure the registry"),
    "cni": tuple(
        f"cni : {task}"
        for task in ("Write the manifest", "Connect pods to the network", "Apply the manifest")
    ),
    "network_policy": ("network_policy : Write the manifest", "network_policy : Apply the manifest"),
    "metrics_server": ("metrics_server : Write the manifest", "metrics_server : Apply the manifests"),
}
FLAG = "--file_system_poll_wait_seconds=2"
LIVE_RESTORE = "docker info --format 'live restore: {{.LiveRestoreEnabled}}'"
SERVER = "ps -o args= -p $(systemctl show --property=MainPID --value model-server.service)"


@dataclass(frozen=True)
class Way:
    """How it is set up. before: done on the host first. runs: a script and what it then prints, among other things.

    roles: in which it is killed; the kind's where none is named.
    """

    variables: Mapping[str, object] = field(default_factory=dict)
    before: str = "true"
    runs: tuple[str, str] = ("true", "")
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """What is set up. kills: for each way. roles: in the order of site.yml. cut_at: a task in the middle of it."""

    workers: int
    kills: int
    roles: tuple[str, ...]
    cut_at: str
    ways: tuple[Way, ...] = (Way(),)


KINDS = {
    "model_server": Kind(
        0,
        14,
        ("apt_source", "model_server"),
        "model_server : Make the venv",
        (
            Way({"model_server_flavour": "portable"}, runs=(SERVER, "/opt/model-server/server/bin/")),
            Way({"model_server_flavour": "tensorflow"}, KEEP_RUNTIME, (SERVER, PROGRAM)),
            Way(
                {"model_server_flavour": "tensorflow", "model_server_flags": [FLAG]},
                runs=(SERVER, FLAG),
                roles=("model_server",),
            ),
        ),
    ),
    "engines": Kind(
        0,
        6,
        ("lxd", "apt_source", "docker"),
        "docker : Configure the daemon",
        (
            Way(runs=(LIVE_RESTORE, "live restore: true")),
            Way(
                {"docker_daemon": {"live-restore": False}},
                runs=(LIVE_RESTORE, "live restore: false"),
                roles=("docker",),
            ),
        ),
    ),
    "cluster": Kind(
        1,
        14,
        (
            *("kubernetes_node", "control_plane", "registry", "worker", "cni", "network_policy"),
            "metrics_server",
        ),
        "kubernetes_node : Install the programs",
    ),
}


@dataclass
class Site:
    kind: Kind
    ctx: Context
    hosts: Hosts
    inventories: list[Path] = field(default_factory=list)
    bare: BareHost | None = None
    packages: str = ""
    runs: int = 0

    @property
    def settings(self) -> Settings:
        return Settings.model_validate({"hosts": {"workers": self.kind.workers, "golden": False}})

    @property
    def last(self) -> Host:
        return self.hosts.hosts[-1]

    def on(self, host: Host, script: str) -> str:
        with ssh.connect(host) as connection:
            return connection.run(["sh", "-c", script], timeout=300).stdout

    def make(self) -> None:
        """Hosts, again where they went down, with what they have of their own: a reboot takes that away."""
        self.hosts = MakeHosts().run(self.ctx, self.settings).value
        for number, host in enumerate(self.hosts.hosts, 1):
            self.on(host, f"{TWO_CARDS.format(number=number)}; {NO_IPV6}")
        self.on(self.last, f"{NAME}; {SWAP}")

    def take(self, way: Way) -> None:
        if self.bare is not None:
            self.inventories = [self.bare.inventory(way.variables)]
        self.on(self.last, way.before)

    def site(self) -> AbstractContextManager[ByHand]:
        self.runs += 1
        return by_hand(self.ctx.state.root.parent, f"run-{self.runs}", "site.yml", self.inventories)

    def play(self, playbook: str, **how: Any) -> ansible_play.Played:
        return ansible_play.play(
            PLAYBOOKS / playbook, self.inventories, self.ctx.evidence(f"{playbook}.log"), **how
        )


@pytest.fixture(scope="module", params=list(KINDS))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("kills")
    ctx = Context(State(root / ".slipway"), root / "run", ROOT)
    made = Site(KINDS[request.param], ctx, Hosts("nspawn", ()))
    try:
        made.make()
        if not made.kind.workers:
            groups = ["model_server"] if request.param == "model_server" else ["docker", "lxd"]
            made.bare = BareHost(root, made.hosts, ctx, groups)
            made.packages = made.bare.on("dpkg-query --show")
            if request.param == "model_server":
                key = SigningKey()
                offer(made.bare, key, 365)
                made.bare.variables = variables(made.bare, key, quick_model(root / "model"))
            made.take(made.kind.ways[0])
        else:
            stage.play(ctx, made.settings, made.hosts, check=True)  # which writes the inventory
            made.inventories = [ctx.state.inventory]
        yield made
    finally:
        take_down(ctx)
        assert traces(lab_name(ctx.state.root)) == []


def test_a_host_that_reboots_or_is_cut_off_meanwhile_is_told_and_taken_up_again(lab: Site) -> None:
    with lab.site() as run:
        assert run.reaches("apt_source : Install packages", lab.last.name)
        lab.on(lab.last, f"{SOON} systemctl reboot --force")
        said = run.fails()
    assert f"fatal: [{lab.last.name}]: UNREACHABLE!" in said
    lab.make()

    with lab.site() as run:
        assert run.reaches(lab.kind.cut_at, lab.last.name)
        lab.on(lab.last, f"{SOON} --unit=cut sh -c '{CUT}'")
        said = run.fails()
    assert f"fatal: [{lab.last.name}]: UNREACHABLE!" in said
    end = time.monotonic() + 300
    while True:
        try:
            lab.on(lab.last, "while systemctl is-active --quiet cut.timer cut.service; do sleep 1; done")
            break
        except ssh.Unreachable:  # for as long as it is cut off
            assert time.monotonic() < end, "it does not come back"


def test_a_run_that_is_killed_in_each_role_comes_to_the_same_end(lab: Site) -> None:
    chance = random.Random(SEED)
    if lab.bare is not None:  # it is there by now
        lab.play("reset.yml", extra={"reset_confirmed": True})
    for way in lab.kind.ways:
        lab.take(way)
        if lab.bare is not None and lab.bare.variables:
            lab.bare.serve()
        kill_in_each_role(lab, way.roles or lab.kind.roles, chance)
        script, runs = way.runs
        assert runs in lab.on(lab.last, script), "the one that was running before the last kill"


def kill_in_each_role(lab: Site, roles: tuple[str, ...], chance: random.Random) -> None:
    planned = [change.task for change in lab.play("site.yml", check=True).changes]
    foreseen = [really for task in planned for really in REALLY.get(task, (task,))]
    of = {
        role: list(dict.fromkeys(task for task in foreseen if task.startswith(f"{role} : ")))
        or [*UNSEEN.get(role, ())]
        for role in roles
    }
    assert all(of.values()), of
    points = [chance.choice(of[role]) for role in roles]
    others = [task for role in roles for task in of[role] if task not in points]
    points += chance.sample(others, k=min(len(others), lab.kind.kills - len(points)))
    order = [*foreseen]
    for before, role in pairwise(roles):
        if of[role][0] not in order:
            at = max(at for at, task in enumerate(order) if task in of[before])
            order[at + 1 : at + 1] = of[role]
    killed: list[str] = []
    left = sorted(points, key=order.index)
    while left:
        with lab.site() as run:
            task = run.first_of(left)
            if not task:
                break
            # what a restart was for is written by then, and the restart itself is not to come
            time.sleep(0 if " : Restart " in task else chance.uniform(0, 2))
            run.kill()
        killed.append(task)
        # what a killed run had begun ends on its host, so that no run may come to the points between
        left = left[left.index(task) + 1 :]
        print(f"killed at {task}", flush=True)
    with lab.site() as run:
        run.ends()
    assert {task.partition(" : ")[0] for task in killed} == set(roles), killed


def test_then_it_is_what_it_is_after_one_run(lab: Site) -> None:
    assert lab.play("verify.yml").changed == 0
    again = lab.play("site.yml")
    assert again.changed == 0, again.changes
    if "model_server" in lab.kind.roles:  # which installs what nobody else can have begun to use
        lab.play("reset.yml", extra={"reset_confirmed": True})
        assert lab.on(lab.last, "dpkg-query --show").splitlines() == lab.packages.splitlines()
    if not lab.kind.workers:
        return
    kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes --no-headers"
    nodes = lab.on(lab.hosts.hosts[0], f"{kubectl} --output custom-columns=N:.metadata.name")
    assert nodes.split() == ["cp", "worker-1"], "whatever the machine calls itself"
    settings = "cat /etc/kubernetes/kubelet.conf.d/10-host.conf"
    assert "failSwapOn: false" in lab.on(lab.last, settings)
    assert "failSwapOn" not in lab.on(lab.hosts.hosts[0], settings)
