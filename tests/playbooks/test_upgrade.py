"""What an upgrade of Kubernetes is decided by: which versions are refused, and what is left to do on a node."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.test.core import TestModule
from slipway.clients import ansible_play
from slipway.core.errors import ProvisionError

from tests.plugins import load

host_facts = load("modules/host_facts.py")
upgrade_refusals = load("filter/upgrade_refusals.py").upgrade_refusals
upgrade_steps = load("filter/upgrade_steps.py").upgrade_steps
waiting_workloads = load("filter/waiting_workloads.py").waiting_workloads

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
COLLECTION = PLAYBOOKS / "collections/ansible_collections/slipway/serving"
KEPT = "2026-11-27T14-05-33Z-v1.36.3"


def node(kubelet: str, *, api_server: str = "", kubeadm: str = "", upgrading: bool = False) -> dict[str, Any]:
    """Facts of a node that has joined."""
    found = {"kubelet": kubelet, "api_server": api_server, "kubeadm": kubeadm or kubelet}
    return {**found, "joined": True, "upgrading": upgrading, "etcd_snapshots": []}


BARE = {"joined": False, "kubelet": "", "api_server": "", "kubeadm": "1.37.2", "upgrading": False}


class TestRefusals:
    @pytest.mark.parametrize("wanted", ["1.36.3", "1.36.9", "1.37.0", "1.37.2"])
    def test_a_patch_and_the_next_minor_are_upgrades(self, wanted: str) -> None:
        nodes = {"cp": node("1.36.3", api_server="1.36.3"), "w": node("1.36.3"), "new": BARE}
        assert upgrade_refusals(nodes, wanted) == []

    @pytest.mark.parametrize(
        ("runs", "wanted", "said"),
        [
            (
                "1.36.3",
                "1.38.0",
                r"cp: .* runs Kubernetes 1\.36\.3.* one minor .* set kube_version to a 1\.37 first",
            ),
            ("1.36.3", "2.0.0", r"cp: .*one minor version at a time; set kube_version to a 1\.37 first"),
            (
                "1.37.2",
                "1.36.3",
                r"cp: .* does not go back; set kube_version to 1\.37\.2, or put back the snapshot",
            ),
            ("1.37.2", "1.37.1", r"cp: .* does not go back"),
            ("1.36.3", "1.37", "kube_version is 1.37; expected a version of three numbers"),
        ],
    )
    def test_what_skips_or_goes_back_is_refused_once(self, runs: str, wanted: str, said: str) -> None:
        nodes = {"cp": node(runs, api_server=runs), "w": node(runs)}
        (line,) = upgrade_refusals(nodes, wanted)
        assert re.match(said, line), line

    def test_a_node_may_be_behind_by_one_minor_and_never_ahead(self) -> None:
        server = node("1.37.2", api_server="1.37.2")
        assert upgrade_refusals({"cp": server, "w": node("1.36.3")}, "1.37.2") == []
        (behind,) = upgrade_refusals({"cp": server, "w": node("1.35.9")}, "1.37.2")
        assert behind.startswith("w: its kubelet is 1.35.9")
        restored = node("1.36.3", api_server="1.36.3")
        (ahead,) = upgrade_refusals({"cp": restored, "w": node("1.37.2")}, "1.36.3")
        assert ahead.startswith("w: its kubelet is 1.37.2, newer than 1.36.3")

    def test_a_failed_start_of_an_upgrade_may_be_taken_back(self) -> None:
        """kubeadm is the new one, and nothing that runs is."""
        assert upgrade_refusals({"cp": node("1.36.3", api_server="1.36.3", kubeadm="1.37.2")}, "1.36.3") == []

    def test_no_node_is_upgraded_before_its_control_plane(self) -> None:
        (line,) = upgrade_refusals({"w": node("1.36.3")}, "1.37.2")
        assert "the control plane, which comes first; leave --limit away" in line
        assert upgrade_refusals({"w": node("1.36.3")}, "1.36.3") == []

    def test_hosts_that_have_not_joined_have_nothing_to_refuse(self) -> None:
        assert upgrade_refusals({"cp": BARE, "w": BARE}, "1.99.0") == []
        assert upgrade_refusals({}, "1.37.2") == []


class TestSteps:
    @pytest.mark.parametrize("facts", [BARE, node("1.37.2"), node("1.37.2", api_server="1.37.2")])
    def test_nothing_is_left_where_the_version_runs(self, facts: dict[str, Any]) -> None:
        assert upgrade_steps(facts, "1.37.2") == []

    def test_a_snapshot_and_the_drain_come_before_anything_changes(self) -> None:
        assert upgrade_steps(node("1.36.3", api_server="1.36.3"), "1.37.2") == [
            *("keep", "snapshot", "drain", "kubeadm", "control_plane", "kubelet", "uncordon")
        ]
        assert upgrade_steps(node("1.36.3"), "1.37.2") == [
            *("keep", "drain", "kubeadm", "node", "kubelet", "uncordon")
        ]

    def test_pods_of_the_only_node_have_nowhere_to_go(self) -> None:
        assert "drain" not in upgrade_steps(node("1.36.3", api_server="1.36.3"), "1.37.2", True)

    @pytest.mark.parametrize(
        ("facts", "left"),
        [
            # between kubeadm's upgrade and the kubelet
            (
                node("1.36.3", api_server="1.37.2", kubeadm="1.37.2", upgrading=True),
                ["keep", "drain", "kubelet", "uncordon"],
            ),
            # between the kubelet's program and the end
            (node("1.37.2", upgrading=True), ["kubelet", "uncordon"]),
            # after a snapshot was put back, or an upgrade taken back that had only brought kubeadm
            (node("1.37.2", kubeadm="1.36.3"), ["kubeadm"]),
        ],
    )
    def test_what_was_cut_short_goes_on_from_there(self, facts: dict[str, Any], left: list[str]) -> None:
        assert upgrade_steps(facts, "1.37.2") == left


def workload(kind: str, name: str, wanted: int, ready: int, **status: int) -> dict[str, Any]:
    metadata = {"namespace": "serving", "name": name, "generation": 2}
    seen = {"observedGeneration": 2, **status}
    if kind == "DaemonSet":
        counts = {"desiredNumberScheduled": wanted, "numberReady": ready, "updatedNumberScheduled": wanted}
        return {"kind": kind, "metadata": metadata, "status": {**counts, **seen}}
    counts = {"readyReplicas": ready, "updatedReplicas": wanted}
    return {"kind": kind, "metadata": metadata, "spec": {"replicas": wanted}, "status": {**counts, **seen}}


def test_workloads_stand_when_all_they_ask_for_is_ready() -> None:
    def told(*items: dict[str, Any]) -> list[str]:
        found: list[str] = waiting_workloads(json.dumps({"items": items}))
        return found

    assert told(workload("Deployment", "a", 3, 3), workload("DaemonSet", "b", 2, 2)) == []
    assert told(workload("Deployment", "a", 0, 0)) == []
    assert told(workload("Deployment", "a", 3, 2)) == ["serving/Deployment/a: 2 of 3 ready"]
    assert told(workload("StatefulSet", "a", 3, 3, updatedReplicas=1)) == [
        "serving/StatefulSet/a: 1 of 3 ready"
    ]
    assert told(workload("DaemonSet", "b", 2, 1)) == ["serving/DaemonSet/b: 1 of 2 ready"]
    assert told(workload("DaemonSet", "b", 2, 2, observedGeneration=1)) == [
        "serving/DaemonSet/b: 2 of 2 ready"
    ]


def test_a_workload_that_did_not_stand_before_holds_nothing_up() -> None:
    answer = json.dumps({"items": [workload("Deployment", "a", 3, 0), workload("Deployment", "b", 3, 2)]})
    assert waiting_workloads(answer, ["serving/Deployment/a: 1 of 3 ready"]) == [
        "serving/Deployment/b: 2 of 3 ready"
    ]


class TestFacts:
    def test_versions_of_programs(self) -> None:
        assert host_facts.kubernetes_version("Kubernetes v1.36.3\n") == "1.36.3"
        assert host_facts.kubernetes_version("") == ""
        manifest = "    image: registry.k8s.io/kube-apiserver:v1.37.2\n    imagePullPolicy: IfNotPresent\n"
        assert host_facts.kubernetes_version(manifest) == "1.37.2"

    @pytest.mark.parametrize(
        ("printed", "version"),
        [
            ("containerd github.com/containerd/containerd/v2 v2.4.2 ", "2.4.2"),
            ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4\n", "1.7.24"),
            ("containerd containerd.io 1.7.28 b98a3aac\n", "1.7.28"),
            ("", ""),
        ],
    )
    def test_version_of_containerd(self, printed: str, version: str) -> None:
        assert host_facts.containerd_version(printed) == version


CNI_1 = ("io.containerd.grpc.v1.cri", {"bin_dir": "/usr/lib/cni"})
CNI_2 = ("io.containerd.cri.v1.runtime", {"bin_dir": "/usr/lib/cni"})
CNI_2_1 = ("io.containerd.cri.v1.runtime", {"bin_dirs": ["/usr/lib/cni"]})


@pytest.mark.parametrize(
    ("version", "place"),
    [("1.7.24~ds1-6", CNI_1), ("2.0.5", CNI_2), ("2.1", CNI_2_1), ("2.2.1-1", CNI_2_1), ("2.4.2", CNI_2_1)],
)
def test_containerd_is_told_where_plugins_are_by_the_name_its_version_knows(
    version: str, place: tuple[str, dict[str, Any]]
) -> None:
    loader = jinja2.FileSystemLoader(COLLECTION / "roles/kubernetes_node/templates")
    engine = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True)
    engine.tests.update(TestModule().tests())
    text = engine.get_template("config.toml.j2").render(
        ansible_managed="",
        ansible_facts={"slipway_host": {"lowers_oom_score": True}},
        kubernetes_node_sandbox_image="pause",
        _kubernetes_node_cgroup_driver="systemd",
        _kubernetes_node_containerd_version=version,
    )
    plugin, cni = place
    assert tomllib.loads(text)["plugins"][plugin]["cni"] == {**cni, "conf_dir": "/etc/cni/net.d"}


# Facts of hosts that are no machines, in the place of what the roles would gather
FACTS = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"facts": {"type": "dict"}}, supports_check_mode=True)
module.exit_json(ansible_facts=module.params["facts"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Ansible's local connection")
class TestPreflight:
    @pytest.fixture
    def asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Run the preflight of a role on hosts with these facts, as preflight.yml does. Returns what it refuses."""
        monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(PLAYBOOKS / "collections"))
        monkeypatch.setenv("ANSIBLE_LIBRARY", str(tmp_path / "library"))
        (tmp_path / "library").mkdir()
        (tmp_path / "library/told_facts.py").write_text(FACTS)

        def ask(role: str, hosts: dict[str, dict[str, Any]], **variables: Any) -> str:
            local = {
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            }
            inventory = tmp_path / "inventory.yml"
            groups = {"control_plane": ["cp"], "worker": [name for name in hosts if name != "cp"]}
            children = {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}
            told = {name: {"slipway_host": facts} for name, facts in hosts.items()}
            every = {**local, **variables, "told": told}
            inventory.write_text(yaml.safe_dump({"all": {"vars": every, "children": children}}))
            include = {"name": f"slipway.serving.{role}", "tasks_from": "preflight"}
            tasks = [
                {"told_facts": {"facts": "{{ told[inventory_hostname] }}"}},
                {"ansible.builtin.include_role": include},
            ]
            book = tmp_path / "book.yml"
            book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
            try:
                ansible_play.play(book, inventory, tmp_path / "log")
            except ProvisionError as error:
                return "\n".join([str(error), error.tail])
            return ""

        return ask

    def test_the_role_refuses_by_the_facts_of_all_nodes(self, asked: Any) -> None:
        hosts = {"cp": node("1.37.2", api_server="1.37.2"), "w": node("1.37.2")}
        assert asked("kubernetes_upgrade", hosts, kube_version="1.37.2") == ""
        said = asked("kubernetes_upgrade", hosts, kube_version="1.36.3")
        assert (
            "kubernetes_upgrade: cp: the cluster runs Kubernetes 1.37.2, and kube_version is 1.36.3" in said
        )
        said = asked("kubernetes_upgrade", hosts, kube_version="1.39.0")
        assert "one minor version at a time; set kube_version to a 1.38 first" in said
