"""What preflight says, with this machine standing in for the hosts: it reads only."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.clients import ansible_play
from slipway.core.errors import ProvisionError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the facts are those of a Linux host")

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
# what this machine itself would be told does not belong to these tests
QUIET = {
    "kubernetes_node_eviction_hard": {"nodefs.available": "0%", "imagefs.available": "0%"},
    "host_free_megabytes": 0,
    "host_lock": False,
}


def inventory(folder: Path, groups: dict[str, list[str]], **variables: Any) -> Path:
    """Hosts that all are this machine, without SSH and sudo."""
    local = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    children = {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump({"all": {"vars": {**local, **QUIET, **variables}, "children": children}}))
    return path


def complaints(playbook: Path, hosts: Path, log: Path) -> str:
    with pytest.raises(ProvisionError) as caught:
        ansible_play.play(playbook, hosts, log)
    return "\n".join([str(caught.value), caught.value.tail])


def test_every_role_and_host_is_told_at_once(tmp_path: Path) -> None:
    hosts = inventory(
        tmp_path,
        {"registry": ["cp"], "docker": ["cp"], "control_plane": ["cp"], "worker": ["w", "Upper_Case"]},
        kubernetes_node_source="files",
        kubernetes_node_images=["/none/such.tar", "/none/other.tar"],
        kubernetes_node_image_gc_percent=70,
    )
    log = tmp_path / "log"
    said = complaints(PLAYBOOKS / "preflight.yml", hosts, log)
    assert "task `Refuse hosts with problems` of preflight.yml failed" in said
    for line in (
        "registry: registry_password_file is not set; expected a 0600 file on this controller",
        "registry: registry_ca_file is not set",
        "kubernetes_node: kubernetes_node_binaries is not set; expected a folder on this controller with kubelet, kubeadm",
        "/none/such.tar does not exist on this controller (kubernetes_node_images)\n/none/other.tar does not",
        "kubernetes_node: kubernetes_node_image_gc_percent is 70; expected 81 to 100",
    ):
        assert line in said
    assert re.search(
        r"kubernetes_node: cp, Upper_Case, w have \S+ alike, as behind a NAT of their own each;", said
    )
    assert "registry_password_file  does not exist" not in said, "what is not set is told once"
    printed = log.read_text()
    refused = printed[printed.index("TASK [Refuse hosts with problems]") :]
    assert refused.count("image_gc_percent is 70") >= 3, "from every host"
    assert "kubernetes_node: Upper_Case is not a node name" in refused
    assert "cp is not a node name" not in printed


def test_what_two_groups_lack_or_have_too_much_of(tmp_path: Path) -> None:
    hosts = inventory(tmp_path, {"worker": ["w"]})
    said = complaints(PLAYBOOKS / "preflight.yml", hosts, tmp_path / "1.log")
    assert "worker: no host in group control_plane to join" in said
    assert "cni: no host in group control_plane to ask" in said
    hosts = inventory(tmp_path, {"control_plane": ["a", "b"], "registry": ["a", "b"]})
    said = complaints(PLAYBOOKS / "preflight.yml", hosts, tmp_path / "2.log")
    assert "control_plane: group control_plane has 2 hosts, expected one" in said
    assert "registry: group registry has 2 hosts, expected one" in said


def test_files_of_the_controller_may_lie_in_ones_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "password").write_text("word")
    files = {"registry_password_file": "~/password", "registry_pull_password_file": "~/none"}
    hosts = inventory(tmp_path, {"registry": ["a", "b"]}, **files)
    said = complaints(PLAYBOOKS / "preflight.yml", hosts, tmp_path / "log")
    assert "registry_pull_password_file ~/none does not exist" in said
    assert "~/password" not in said


def test_a_cluster_whose_networks_the_hosts_are_in(tmp_path: Path) -> None:
    groups = {"control_plane": ["cp"], "worker": ["w"]}
    hosts = inventory(tmp_path, groups, control_plane_pod_subnet="0.0.0.0/0")
    said = complaints(PLAYBOOKS / "preflight.yml", hosts, tmp_path / "log")
    for host in ("cp", "w"):
        assert re.search(
            rf"control_plane_pod_subnet: 0\.0\.0\.0/0 overlaps \S+, the network of host {host};", said
        )
    assert "control_plane_service_subnet" not in said


def test_what_a_model_server_lacks(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").touch()
    hosts = inventory(
        tmp_path,
        {"model_server": ["s"]},
        model_server_flavour="portable",
        model_server_version="2.21.0",
        model_server_wheels=str(tmp_path),
        model_server_model=str(tmp_path),
        model_server_requests="/none/such.jsonl",
        model_server_base_path="/models/my mnist",
        model_server_name="two words",
        model_server_flags=["--enable_batching", "--a=b c", "-x"],
        model_server_port=8501,
    )
    said = complaints(PLAYBOOKS / "preflight.yml", hosts, tmp_path / "log")
    for line in (
        f"model_server: model_server_wheels ({tmp_path}) has no wheel of slipway-client, slipway-model-server;",
        f"model_server: model_server_wheels ({tmp_path}) has no wheel of slipway-client; expected a folder",
        "model_server: model_server_version is TensorFlow's own server's, and model_server_flavour is portable",
        f"model_server: model_server_model {tmp_path} is not a SavedModel on this controller; expected a folder",
        "model_server: model_server_requests /none/such.jsonl does not exist on this controller",
        "model_server: model_server_base_path is /models/my mnist; expected an absolute path of letters",
        "model_server: model_server_name is two words; expected letters, digits",
        "model_server: --a=b c, -x in model_server_flags; expected --name=value",
        "model_server: model_server_port and model_server_rest_port are both 8501",
    ):
        assert line in said


# Facts of a host that is no machine, handed to the roles in place of those they would gather
FACTS = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"facts": {"type": "dict"}}, supports_check_mode=True)
module.exit_json(ansible_facts=module.params["facts"])
"""


def test_which_model_server_auto_takes_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it is decided without asking anybody: by architecture, by what is there, by what is missing."""
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(PLAYBOOKS / "collections"))
    for name in ("slipway_client", "slipway_model_server"):
        (tmp_path / f"{name}-0.1.0-py3-none-any.whl").touch()
    bare = {"architecture": "aarch64", "python": "3.13", "packages": {}, "held_packages": [], "files": {}}
    portable: dict[str, Any] = {"/opt/model-server/server/installed.txt": {}}
    cases: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
        "arm": (
            bare,
            {},
            "server: portable: TensorFlow Serving's packages are for x86-64 alone, and this host is aarch64",
        ),
        "there": (
            {**bare, "architecture": "x86_64", "files": portable},
            {},
            "server: portable: it is installed already; model_server_flavour: tensorflow changes to the other one",
        ),
        "asked": (
            bare,
            {"model_server_flavour": "portable"},
            "server: portable: model_server_flavour is portable",
        ),
        "new": ({**bare, "python": "3.14"}, {}, "Python 3.11, 3.12, 3.13 on the host, which has 3.14"),
        "none": (
            bare,
            {"model_server_wheels": ""},
            "and neither the portable one: that needs model_server_wheels",
        ),
    }
    (tmp_path / "library").mkdir()
    (tmp_path / "library/told_facts.py").write_text(FACTS)
    facts = {"distribution": "Debian", "default_ipv4": {}}
    tasks: list[dict[str, Any]] = [
        {"name": "Tell", "told_facts": {"facts": "{{ told }}"}},
        {
            "name": "Choose",
            "ansible.builtin.include_role": {"name": "slipway.serving.model_server", "tasks_from": "choose"},
        },
    ]
    book = tmp_path / "book.yml"
    book.write_text(yaml.safe_dump([{"name": "Any", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    path = inventory(tmp_path, {"any": list(cases)}, model_server_wheels=str(tmp_path))
    written = yaml.safe_load(path.read_text())
    written["all"]["children"]["any"]["hosts"] = {
        name: {"told": {**facts, "slipway_host": told}, **variables}
        for name, (told, variables, _) in cases.items()
    }
    path.write_text(yaml.safe_dump(written))
    complaints(book, path, tmp_path / "log")
    said = " ".join((tmp_path / "log").read_text().split())
    for name, (_, _, words) in cases.items():
        assert words in said, name


BROUGHT = "/etc/systemd/system/containerd.service.d/10-program.conf"


def test_what_is_on_a_node_already_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(PLAYBOOKS / "collections"))
    bare: dict[str, Any] = {
        "packages": {},
        "files": {},
        "listeners": {},
        "disk": {},
        "firewalls": {},
        "kubelet": "",
        "containerd": "",
        "images": {},
    }
    bare |= {"joined": False, "unfinished": False, "control_plane": False, "encrypts_secrets": False}
    bare["node_address"] = ""
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "theirs": ({"joined": True}, "this machine is a node of a cluster that these roles did not set up"),
        "k3s": (
            {"listeners": {"6443": "k3s-server", "22": "sshd"}},
            "k3s-server already listens on port 6443, as",
        ),
        "apt": ({"packages": {"kubeadm": "1.30.1-1.1"}}, "kubeadm is installed as a package, whose program"),
        "shut": (
            {"firewalls": {"ufw": ["10.0.0.0/24"]}},
            "control_plane: shut: ufw is on and does not let in pods (10.244.0.0/16)",
        ),
        "moved": (
            {"joined": True, "control_plane": True, "node_address": "10.0.0.9"},
            "moved joined its cluster as 10.0.0.9, which it does not have any more, but 10.0.0.5: give it that",
        ),
        "old": (
            {"packages": {"containerd": "1.7.24~ds1-6"}},
            "Kubernetes 1.37.2 asks containerd by the CRI method RuntimeConfig, which containerd 1.7.24~ds1-6 of this host has"
            " not: set kubernetes_node_containerd_source (cluster.containerd_source) to files",
        ),
        "raised": (
            {"joined": True, "kubelet": "1.35.1"},
            "this node runs Kubernetes 1.35.1, asked for 1.36.3; upgrade.yml upgrades a cluster, this role does not",
        ),
        "brought": (
            {"joined": True, "containerd": "2.4.2", "files": {BROUGHT: {}}},
            "runs containerd 2.4.2 that was brought along, whose data an older one cannot read; leave",
        ),
    }

    def card(number: int) -> dict[str, Any]:
        at = {"address": f"10.0.0.{number}", "prefix": "24"}
        return {"interfaces": ["eth0"], "eth0": {"ipv4": at}, "default_ipv4": at}

    (tmp_path / "library").mkdir()
    (tmp_path / "library/told_facts.py").write_text(FACTS)
    (tmp_path / "bin").mkdir()
    for name in ("kubelet", "kubeadm", "kubectl"):
        (tmp_path / "bin" / name).touch()
    tasks: list[dict[str, Any]] = [{"name": "Tell", "told_facts": {"facts": "{{ told }}"}}]
    for role in ("kubernetes_node", "control_plane"):
        include = {"name": f"slipway.serving.{role}", "tasks_from": "preflight"}
        ask = [{"name": f"Ask {role}", "ansible.builtin.include_role": include}]
        tasks.append(
            {"name": "Try", "block": ask, "rescue": [{"name": "On", "ansible.builtin.meta": "noop"}]}
        )
    tasks.append({"name": "End", "ansible.builtin.fail": {"msg": "all were asked"}})
    book = tmp_path / "book.yml"
    book.write_text(yaml.safe_dump([{"name": "Any", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    path = inventory(
        tmp_path,
        {"control_plane": []},
        kubernetes_node_source="files",
        kubernetes_node_binaries=str(tmp_path / "bin"),
    )
    written = yaml.safe_load(path.read_text())
    written["all"]["children"]["control_plane"]["hosts"] = {
        name: {"told": {"distribution": "Debian", **card(number), "slipway_host": {**bare, **differs}}}
        for number, (name, (differs, _)) in enumerate(cases.items(), 1)
    }
    written["all"]["children"]["control_plane"]["hosts"]["old"]["kube_version"] = "1.37.2"
    path.write_text(yaml.safe_dump(written))
    complaints(book, path, tmp_path / "log")
    said = " ".join((tmp_path / "log").read_text().split())
    for name, (_, words) in cases.items():
        assert words in said, name


def test_tags_do_not_keep_preflight_from_asking(tmp_path: Path) -> None:
    hosts = inventory(tmp_path, {"docker": ["a"], "worker": ["a"]})
    with pytest.raises(ProvisionError) as caught:
        ansible_play.play(PLAYBOOKS / "site.yml", hosts, tmp_path / "log", tags="docker_configure")
    assert "worker: no host in group control_plane to join" in caught.value.tail


def test_a_role_used_alone_fails_with_all_its_complaints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(PLAYBOOKS / "collections"))
    book = tmp_path / "book.yml"
    book.write_text(
        "- name: Alone\n  hosts: all\n  gather_facts: true\n  roles:\n    - role: slipway.serving.registry\n"
    )
    log = tmp_path / "log"
    said = complaints(book, inventory(tmp_path, {"registry": ["a"]}), log)
    assert "task `registry : Check the variables` of book.yml failed" in said
    assert "registry_password_file is not set" in said and "registry_ca_file is not set" in said
    assert "Install the registry" not in log.read_text()
