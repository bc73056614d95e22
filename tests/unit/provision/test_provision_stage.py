from __future__ import annotations

import json
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from slipway import artifacts
from slipway.artifacts import KubernetesArtifacts
from slipway.clients import ansible_inventory, ansible_play
from slipway.clients.ansible_inventory import Machine
from slipway.clients.ansible_play import Played, TaskChange
from slipway.clients.kubectl import KubectlError
from slipway.core.context import Context
from slipway.core.errors import CommandError, ProvisionError, UsageError
from slipway.core.events import Note
from slipway.core.process import Completed
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host, HostPlay, Hosts
from slipway.provision.stage import Provision, open_to_the_internet, play

HOSTS = Hosts(
    "nspawn",
    (
        Host("cp", "10.77.2.2", "root", "ssh-ed25519 AAAA", ("control_plane", "docker", "registry")),
        Host("worker-1", "10.77.2.3", "root", "ssh-ed25519 BBBB", ("worker",)),
    ),
)
NODE = {
    "metadata": {"name": "cp", "labels": {"node-role.kubernetes.io/control-plane": ""}},
    "status": {
        "addresses": [{"type": "Hostname", "address": "cp"}, {"type": "InternalIP", "address": "10.77.2.2"}],
        "nodeInfo": {"kubeletVersion": "v1.36.3"},
    },
}
VIEW = {"clusters": [{"cluster": {"server": "https://10.77.2.2:6443"}}]}


class Lab:
    """site.yml and kubectl as they would answer; what they were asked."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any = "modules") -> None:
        self.ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path)
        self.played: list[dict[str, Any]] = []
        self.told: dict[str, Any] = {}
        self.kubectl: list[tuple[str, ...]] = []
        (tmp_path / "bin").mkdir()
        for name in ("kubelet", "kubeadm", "kubectl"):
            (tmp_path / "bin" / name).write_text(name)
        self.found = KubernetesArtifacts(
            source=source,
            version="1.36.3",
            binaries=tmp_path / "bin",
            kubectl=tmp_path / "bin" / "kubectl",
            images=(tmp_path / "every.tar", tmp_path / "cp.tar"),
            worker_images=(tmp_path / "every.tar",),
            flannel_image="flannel:1",
            network_policy_image="netpol:1",
            metrics_server_image="metrics:1",
            sandbox_image="pause:3",
        )
        monkeypatch.setattr(artifacts, "kubernetes", lambda ctx, settings: self.found)
        monkeypatch.setattr(ansible_play, "play", self.play)
        monkeypatch.setattr("slipway.core.process.run", self.run)

    def play(self, playbook: Path, inventory: Sequence[Path], log: Path, **options: Any) -> Played:
        self.played.append({"playbook": playbook, "inventory": inventory, "log": log, **options})
        hosts = {"cp": HostPlay(9, 2, 0, 1), "worker-1": HostPlay(5, 1, 0, 1)}
        return Played(
            hosts,
            (TaskChange("cp", "docker : Configure", "/etc/docker/daemon.json"), TaskChange("cp", "X")),
            log,
            1,
            self.told,
        )

    def run(self, argv: Any, **_options: Any) -> Completed:
        words = tuple(map(str, argv))
        self.kubectl.append(words)
        answer = VIEW if "config" in words else {"items": [NODE]}
        return Completed(words, 0, json.dumps(answer), "")

    @property
    def inventory(self) -> Any:
        return yaml.safe_load(self.ctx.state.inventory.read_text())["all"]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def test_run_hands_on_the_cluster(lab: Lab) -> None:
    outcome = Provision().run(lab.ctx, Settings(), HOSTS)
    cluster = outcome.value
    assert outcome.changed == 3
    assert cluster.api == "https://10.77.2.2:6443"
    assert [(node.name, node.address, node.role, node.version) for node in cluster.nodes] == [
        ("cp", "10.77.2.2", "control_plane", "v1.36.3")
    ]
    assert cluster.registry is not None and cluster.registry.address == "10.77.2.2:5000"
    assert set(cluster.plays) == {"cp", "worker-1"}
    assert lab.played[0]["playbook"].name == "site.yml" and not lab.played[0]["check"]


def test_the_registry_is_called_as_the_hosts_call_it(lab: Lab) -> None:
    lab.told = {"slipway_registry": {"address": "10.0.1.10:5000", "external": "203.0.113.7:5000"}}
    registry = Provision().run(lab.ctx, Settings(), HOSTS).value.registry
    assert registry is not None and (registry.address, registry.reached) == (
        "10.0.1.10:5000",
        "203.0.113.7:5000",
    )
    lab.told["slipway_registry"]["external"] = "10.0.1.10:5000"
    registry = Provision().run(lab.ctx, Settings(), HOSTS).value.registry
    assert registry is not None and registry.reached is None
    assert "registry_address" not in lab.inventory["vars"], "the role finds it by the hosts' facts"


def test_an_upgrade_tells_where_what_was_before_is_kept(lab: Lab) -> None:
    kept = "/var/lib/kubernetes-upgrade/2026-11-27T14-05-33Z-v1.36.3"
    lab.told = {"slipway_upgrade": {"from": "1.36.3", "to": "1.37.2", "snapshot": kept}}
    said: list[str] = []
    ctx = replace(lab.ctx, emit=lambda event: said.append(event.text) if isinstance(event, Note) else None)
    Provision().run(ctx, Settings(), HOSTS)
    assert [line for line in said if "from Kubernetes 1.36.3 to 1.37.2" in line and kept in line]


def test_a_containerd_that_is_brought_along_is_another_root(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab.ctx.project / "playbooks").mkdir()
    for image in lab.found.images:
        image.touch()
    monkeypatch.setattr(artifacts, "containerd", lambda ctx, settings: lab.found.binaries)
    brought = Settings.model_validate({"cluster": {"containerd_source": "files"}})
    assert Provision().bake_key(lab.ctx, Settings()) != Provision().bake_key(lab.ctx, brought)
    play(lab.ctx, brought, HOSTS)
    assert lab.inventory["vars"]["kubernetes_node_containerd_binaries"] == str(lab.found.binaries)


def test_a_limited_play_is_told_what_the_registry_is_called(lab: Lab) -> None:
    lab.told = {"slipway_registry": {"address": "10.0.1.10:5000", "external": "10.0.1.10:5000"}}
    play(lab.ctx, Settings(), HOSTS, limit="worker-1")
    assert "registry_address" not in lab.inventory["vars"], "nobody knows it yet"
    lab.ctx.state.keep(Provision().run(lab.ctx, Settings(), HOSTS).value)
    play(lab.ctx, Settings(), HOSTS, limit="worker-1")
    assert lab.inventory["vars"]["registry_address"] == "10.0.1.10:5000"


def test_a_registry_brought_along_keeps_its_name(lab: Lab) -> None:
    lab.told = {"slipway_registry": {"address": "other:5000", "external": "other:5000"}}
    theirs = Settings.model_validate({"image": {"registry": "theirs:443"}})
    registry = Provision().run(lab.ctx, theirs, HOSTS).value.registry
    assert registry is not None and registry.address == "theirs:443"
    assert lab.inventory["vars"]["registry_address"] == "theirs:443"


def test_the_inventory_has_all_that_site_needs(lab: Lab) -> None:
    Provision().run(lab.ctx, Settings(), HOSTS)
    variables = lab.inventory["vars"]
    state = lab.ctx.state
    assert variables["kube_version"] == "1.36.3"
    assert variables["kubernetes_node_binaries"] == str(lab.found.binaries)
    assert variables["control_plane_kubeconfig_path"] == str(state.kubeconfig)
    assert variables["registry_password_file"] == str(state.registry / "password")
    assert variables["cni_flannel_args"] == []
    children = lab.inventory["children"]
    assert len(children["control_plane"]["vars"]["kubernetes_node_images"]) == 2
    assert len(children["worker"]["vars"]["kubernetes_node_images"]) == 1


def test_the_released_flannel_gets_the_roles_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, monkeypatch, source="release")
    Provision().run(lab.ctx, Settings(), HOSTS)
    assert "cni_flannel_args" not in lab.inventory["vars"]


def test_the_password_is_made_once_and_is_nowhere_but_in_its_file(lab: Lab) -> None:
    Provision().run(lab.ctx, Settings(), HOSTS)
    file = lab.ctx.state.registry / "password"
    password = file.read_text()
    assert len(password) > 20 and stat.S_IMODE(file.stat().st_mode) == 0o600
    Provision().run(lab.ctx, Settings(), HOSTS)
    assert file.read_text() == password
    others = [path for path in lab.ctx.state.root.rglob("*") if path.is_file() and path != file]
    assert lab.ctx.state.inventory in others
    assert not any(password.strip() in path.read_text() for path in others)


def test_only_what_was_set_is_passed_on(lab: Lab) -> None:
    Provision().run(lab.ctx, Settings(), HOSTS)
    assert not {"control_plane_pod_subnet", "docker_source"} & set(lab.inventory["vars"])
    settings = Settings.model_validate(
        {"cluster": {"pod_subnet": "10.1.0.0/16"}, "docker": {"source": "docker"}}
    )
    Provision().run(lab.ctx, settings, HOSTS)
    assert lab.inventory["vars"]["control_plane_pod_subnet"] == "10.1.0.0/16"
    assert lab.inventory["vars"]["docker_source"] == "docker"


def test_disk_thresholds_are_absolute_on_hosts_that_share_this_machines_disk(lab: Lab) -> None:
    names = {"kubernetes_node_eviction_hard", "kubernetes_node_image_gc_percent"}
    Provision().run(lab.ctx, Settings(), HOSTS)
    assert names <= set(lab.inventory["vars"])
    Provision().run(lab.ctx, Settings(), Hosts("ssh", HOSTS.hosts))
    assert not names & set(lab.inventory["vars"])


def test_an_existing_registry_is_trusted_and_none_is_made(lab: Lab, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("pem")
    settings = Settings.model_validate({"image": {"registry": "registry.example:5000", "ca_file": ca}})
    cluster = Provision().run(lab.ctx, settings, HOSTS).value
    assert lab.inventory["children"]["registry"]["hosts"] == {}
    assert lab.inventory["children"]["docker"]["hosts"] == {"cp": {}}
    assert lab.inventory["vars"]["registry_address"] == "registry.example:5000"
    assert lab.inventory["vars"]["registry_ca_file"] == str(ca)
    assert cluster.registry is not None and cluster.registry.address == "registry.example:5000"


def test_plan_says_what_would_change(lab: Lab) -> None:
    assert Provision().plan(lab.ctx, Settings(), HOSTS) == [
        "cp: docker : Configure (/etc/docker/daemon.json)",
        "cp: X",
    ]
    assert lab.played[0]["check"]


def test_plan_without_hosts_guesses_nothing(lab: Lab) -> None:
    (line,) = Provision().plan(lab.ctx, Settings(), None)
    assert "cannot be known" in line and not lab.played


def test_no_control_plane_is_said(lab: Lab) -> None:
    with pytest.raises(ProvisionError, match="control_plane"):
        Provision().run(lab.ctx, Settings(), Hosts("ssh", HOSTS.hosts[1:]))


def test_an_existing_cluster_is_read_and_not_provisioned(lab: Lab, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "theirs"
    kubeconfig.write_text("x")
    settings = Settings.model_validate({"cluster": {"kubeconfig": kubeconfig, "context": "prod"}})
    assert str(kubeconfig) in Provision().should_run(settings)
    assert Provision().should_run(Settings()) == ""
    outcome = Provision().provided(lab.ctx, settings)
    assert outcome.changed == 0 and outcome.value.kubeconfig == kubeconfig and outcome.value.registry is None
    assert all("--context=prod" in words for words in lab.kubectl) and not lab.played


def test_kubectl_is_where_env_looks(lab: Lab) -> None:
    Provision().run(lab.ctx, Settings(), HOSTS)
    assert (lab.ctx.state.bin / "kubectl").read_text() == "kubectl"


def test_a_shell_with_our_env_brings_a_cluster_along(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = lab.ctx.project / "theirs"
    kubeconfig.write_text("x")
    settings = Settings.model_validate({"cluster": {"kubeconfig": kubeconfig}})
    lab.found.kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(lab.ctx.project / "none"))
    Provision().provided(lab.ctx, settings)
    monkeypatch.setenv("PATH", str(lab.ctx.state.bin))
    Provision().provided(lab.ctx, settings)
    assert (lab.ctx.state.bin / "kubectl").read_text() == "kubectl"


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        (("10.77.2.2", "192.168.1.4"), ""),
        (("100.64.0.9", "169.254.1.1", "cp.example.org"), ""),
        (("10.77.2.2", "8.8.8.8"), "host-1: public addresses"),
        (("2a00:1450:4001::1", "8.8.8.8"), "host-0, host-1: public addresses"),
    ],
)
def test_hosts_that_the_internet_reaches_are_told(addresses: tuple[str, ...], told: str) -> None:
    hosts = tuple(
        Host(f"host-{number}", address, "root", "ssh-ed25519 AAAA", ("worker",))
        for number, address in enumerate(addresses)
    )
    lines = open_to_the_internet(Hosts("ssh", hosts))
    assert (len(lines) == 1 and lines[0].startswith(told)) if told else lines == []


@pytest.fixture
def theirs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hosts]:
    """Hosts of an inventory, whose machines have variables of these names."""

    def made(*variables: str, groups: tuple[str, ...] = ("control_plane",)) -> Hosts:
        machine = Machine("cp", groups, "192.0.2.1", variables=frozenset(variables))
        monkeypatch.setattr(ansible_inventory, "machines", lambda _inventory: (machine,))
        host = Host("cp", "192.0.2.1", "root", "", groups)
        return Hosts("ssh", (host,), lab.ctx.project / "machines.yml")

    return made


def test_an_inventory_is_handed_to_ansible_as_it_is(lab: Lab, theirs: Callable[..., Hosts]) -> None:
    hosts = theirs("docker_daemon", "ansible_python_interpreter")
    Provision().run(lab.ctx, Settings(), hosts)
    (played,) = lab.played
    assert played["inventory"] == [lab.ctx.state.inventory, hosts.inventory]
    assert played["limit"] == "slipway", "and machines of other groups are let be"
    assert played["extra"] == {"ansible_ssh_args": "{{ slipway_ssh_args }}"}
    assert "docker_daemon" not in lab.inventory["vars"]
    assert set(lab.inventory["hosts"]["cp"]) == {"ansible_host_key_checking", "slipway_ssh_args"}


def test_a_variable_has_one_home(lab: Lab, theirs: Callable[..., Hosts]) -> None:
    hosts = theirs("kube_version", "kubernetes_node_images", "cni_flannel_args")
    with pytest.raises(UsageError, match="cp: cni_flannel_args") as refused:
        Provision().run(lab.ctx, Settings(), hosts)
    assert refused.value.where == str(hosts.inventory)
    assert refused.value.tail.splitlines() == ["cp: kube_version", "cp: kubernetes_node_images"]
    assert not lab.played
    hosts = theirs("docker_source")
    Provision().run(lab.ctx, Settings(), hosts)
    with pytest.raises(UsageError, match="cp: docker_source"):
        Provision().run(lab.ctx, Settings.model_validate({"docker": {"source": "docker"}}), hosts)


def test_a_registry_is_brought_along_or_set_up(lab: Lab, theirs: Callable[..., Hosts]) -> None:
    settings = Settings.model_validate({"image": {"registry": "registry.example:5000"}})
    Provision().run(lab.ctx, settings, theirs())
    with pytest.raises(UsageError, match="has a group registry"):
        Provision().run(lab.ctx, settings, theirs(groups=("control_plane", "registry")))


def refusing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, words: str, said: str, contexts: str = ""
) -> Settings:
    """An existing cluster whose kubectl fails in these words for one command, and knows these contexts."""

    def run(argv: Any, **options: Any) -> Completed:
        if words in argv:
            raise CommandError(tuple(map(str, argv)), 1, said)
        return Completed(tuple(map(str, argv)), 0, contexts, "") if "get-contexts" in argv else lab.run(argv)

    monkeypatch.setattr("slipway.core.process.run", run)
    kubeconfig = lab.ctx.project / "theirs"
    kubeconfig.write_text("x")
    return Settings.model_validate({"cluster": {"kubeconfig": kubeconfig, "context": "prod"}})


def test_who_may_use_one_namespace_sees_no_nodes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 'Error from server (Forbidden): nodes is forbidden: User "dev" cannot list resource "nodes"'
    settings = refusing(lab, monkeypatch, "nodes", refused)
    outcome = Provision().provided(lab.ctx, settings)
    assert outcome.value.nodes == ()
    assert outcome.summary.endswith("whose nodes this login may not see, brought along")


def test_a_cluster_that_does_not_answer_is_not_taken_for_one_without_rights(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = refusing(lab, monkeypatch, "nodes", "Unable to connect to the server: i/o timeout")
    with pytest.raises(KubectlError) as caught:
        Provision().provided(lab.ctx, settings)
    assert caught.value.reason == "unreachable"


def test_a_context_that_is_none_is_told_with_those_that_there_are(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = refusing(lab, monkeypatch, "view", "error: cannot locate context prod", "dev\nstaging\n")
    with pytest.raises(KubectlError) as caught:
        Provision().provided(lab.ctx, settings)
    assert (
        caught.value.action
        == f"set cluster.context to one that {settings.cluster.kubeconfig} has: dev, staging"
    )


def test_a_list_of_kubeconfigs_is_for_kubectl_to_merge(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValidationError, match=r"KUBECONFIG=\S+/a:\S+/b kubectl config view --flatten"):
        Settings.model_validate({"cluster": {"kubeconfig": f"{tmp_path}/a:{tmp_path}/b"}})
    with pytest.raises(ValidationError, match="does not exist"):
        Settings.model_validate({"cluster": {"kubeconfig": tmp_path / "b"}})
    (tmp_path / "a:b").touch()
    assert (
        Settings.model_validate({"cluster": {"kubeconfig": tmp_path / "a:b"}}).cluster.kubeconfig
        == tmp_path / "a:b"
    )
