"""Kubernetes raised by a minor version on a real cluster that is asked all the while, and a failed upgrade taken back."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_client import messages

from tests.e2e.conftest import PROJECT, Project, new_project

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(5400)]

OLD, NEW = "1.36.3", "1.37.2"
SETTINGS = "deploy:\n  by: render\n  service_type: NodePort\n"
RAISED = ("--set", f"cluster.kube_version={NEW}")
BROUGHT = ("--set", "cluster.containerd_source=files")
# A kubelet that tells its version and runs nothing
BROKEN = f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'Kubernetes v{NEW}' && exit 0\nexit 1\n"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
KEPT = "/var/lib/kubernetes-upgrade"


class Asking:
    """Asks the deployment without a pause through every node's port, over a new connection for each request."""

    def __init__(self, servers: list[str], model: str) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._servers = servers
        self._request = messages.PredictRequest()
        self._request.model_spec.name = model
        self._request.model_spec.signature_name = "predict_images"
        images = self._request.inputs["images"]
        images.dtype = 1
        for size in (1, 784):
            images.tensor_shape.dim.add(size=size)
        images.float_val.append(0.5)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)

    def _ask(self) -> None:
        raw = self._request.SerializeToString()
        while not self._done.is_set():
            for server in self._servers:
                try:
                    # a connection of its own: gRPC shares them between channels with the same arguments
                    with grpc.insecure_channel(server, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                        channel.unary_unary(PREDICT)(raw, timeout=20)
                    self.counts["answered"] += 1
                except grpc.RpcError as error:
                    self.counts[f"{server}: {error.code().name}: {error.details()}"] += 1
            self._done.wait(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = new_project(tmp_path_factory.mktemp("upgrade"), SETTINGS)
    try:
        done = project.run("up")
        assert done.code == 0, done.err[-4000:]
        yield project
    finally:
        project.take_down()


def play(project: Project, book: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A playbook by hand, over the inventory that slipway wrote."""
    program = Path(sys.executable).with_name("ansible-playbook")
    command: list[str | Path] = [program, "-i", project.state / "inventory.yml", f"{book}.yml", *words]
    return subprocess.run(
        command, cwd=PROJECT / "playbooks", check=False, capture_output=True, text=True, timeout=1800
    )


def versions(project: Project) -> dict[str, str]:
    """Node to version of its kubelet, and `api` to the API server's."""
    nodes = project.get("nodes")["items"]
    found = {node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes}
    return {**found, "api": json.loads(project.kubectl("get", "--raw", "/version"))["gitVersion"]}


def marks(project: Project) -> set[str]:
    found: dict[str, Any] = project.get("configmaps", "--namespace", "default", "--selector", "mark")
    return {item["metadata"]["name"] for item in found["items"]}


def mark(project: Project, name: str) -> None:
    document = {"metadata": {"name": name, "namespace": "default", "labels": {"mark": ""}}}
    project.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "ConfigMap", **document})
    )


def test_a_minor_version_up_with_a_failed_try_taken_back(cluster: Project, tmp_path: Path) -> None:
    every = dict.fromkeys(("cp", "worker-1", "worker-2", "api"), f"v{OLD}")
    assert versions(cluster) == every
    (service,) = [
        item for item in cluster.get("services", "-n", "serving")["items"] if "nodePort" in json.dumps(item)
    ]
    (port,) = [entry["nodePort"] for entry in service["spec"]["ports"] if entry["port"] == 8500]
    servers = [f"{host['address']}:{port}" for host in cluster.value("hosts")["hosts"]]
    model = cluster.value("image")["model_name"]

    with Asking(servers, model) as asking:
        # refused by name before anything changes: this containerd lacks what 1.37 asks for
        refused = cluster.run("provision", *RAISED)
        assert refused.code == 4
        assert "by the CRI method RuntimeConfig, which" in refused.err
        assert "cluster.containerd_source) to files" in refused.err
        assert versions(cluster) == every

        # a dry run says what would happen, and changes nothing
        planned = cluster.run("provision", "--check", *RAISED, *BROUGHT)
        assert planned.code == 0, planned.err[-4000:]
        assert versions(cluster) == every
        assert cluster.on_host("cp", f"ls {KEPT} 2>/dev/null || true").strip() == ""

        # a kubelet that does not come up, when the control plane is the new one already
        mark(cluster, "before")
        broken = tmp_path / "broken"
        broken.mkdir()
        inventory = (cluster.state / "inventory.yml").read_text()
        (binaries,) = {
            line.split(": ", 1)[1].strip()
            for line in inventory.splitlines()
            if "kubernetes_node_binaries:" in line
        }
        for name in ("kubeadm", "kubectl"):
            (broken / name).symlink_to(Path(binaries) / name)
        (broken / "kubelet").write_text(BROKEN)
        (broken / "kubelet").chmod(0o755)
        failed = play(
            cluster,
            "upgrade",
            "-e",
            f"kubernetes_node_binaries={broken}",
            "-e",
            "kubernetes_upgrade_timeout=60",
        )
        assert failed.returncode != 0
        (snapshot,) = cluster.on_host("cp", f"ls {KEPT}").split()
        assert snapshot.endswith(f"-v{OLD}")
        said = failed.stdout.replace("\\n", "\n")
        assert "kubernetes_upgrade: cp is not on Kubernetes 1.37.2" in said
        assert f"restore.yml -e restore_confirmed=true -e kubernetes_upgrade_snapshot={snapshot}" in said
        assert f"is kept: {KEPT}/{snapshot}/etcd.db" in said
        assert versions(cluster)["api"] == f"v{NEW}"
        assert versions(cluster)["worker-1"] == f"v{OLD}", "no worker before its control plane"
        mark(cluster, "after")

        # and back, as that said
        restored = play(
            cluster,
            "restore",
            "-e",
            "restore_confirmed=true",
            "-e",
            f"kubernetes_upgrade_snapshot={snapshot}",
        )
        assert restored.returncode == 0, restored.stdout[-6000:]
        assert versions(cluster) == every
        assert marks(cluster) == {"before"}, "what was told since the snapshot is gone"

        # the upgrade
        done = cluster.run("up", *RAISED, *BROUGHT)
        assert done.code == 0, done.err[-4000:]
        assert (
            f"upgraded from Kubernetes {OLD} to {NEW}; what was before is kept on the control plane in {KEPT}/"
            in done.err
        )
        assert versions(cluster) == dict.fromkeys(every, f"v{NEW}")
        nodes = cluster.get("nodes")["items"]
        runtimes = {node["status"]["nodeInfo"]["containerRuntimeVersion"] for node in nodes}
        assert runtimes == {"containerd://2.4.2"}
        assert not any(node["spec"].get("unschedulable") for node in nodes)
        assert marks(cluster) == {"before"}
        etcd = cluster.get("pods", "-n", "kube-system", "-l", "component=etcd")["items"]
        assert [pod["spec"]["containers"][0]["image"] for pod in etcd] == ["registry.k8s.io/etcd:3.7.0-0"]

        again = cluster.run("provision", *RAISED, *BROUGHT)
        assert again.code == 0, again.err[-4000:]
        assert " 0 tasks changed" in again.err

        # never back
        back = cluster.run("provision", *BROUGHT)
        assert back.code == 4
        assert (
            f"the cluster runs Kubernetes {NEW}, and kube_version is {OLD}: a cluster does not go back"
            in back.err
        )
        assert versions(cluster)["api"] == f"v{NEW}"

    answered = asking.counts.pop("answered")
    print(f"answered: {answered}")
    assert asking.counts == {}, asking.counts
    assert answered > 100
