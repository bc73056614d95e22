from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slipway.clients import kubectl
from slipway.core.context import Context
from slipway.core.errors import CommandError
from slipway.core.state import State
from slipway.core.types import Cluster, Endpoints
from slipway.hosts.base import HostStatus
from slipway.status import now

READY = {"type": "Ready", "status": "True"}
NODE = {
    "metadata": {"name": "cp"},
    "status": {"conditions": [READY], "nodeInfo": {"kubeletVersion": "v1.36.3"}},
}
LOST = {
    "metadata": {"name": "worker-1"},
    "status": {
        "conditions": [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting"}],
        "nodeInfo": {"kubeletVersion": "v1.36.3"},
    },
}
PRESSED = {
    "metadata": {"name": "worker-2"},
    "spec": {
        "taints": [
            {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"},
            {"key": "example.com/gpu", "value": "yes", "effect": "NoSchedule"},
        ]
    },
    "status": {
        "conditions": [READY, {"type": "DiskPressure", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.36.3"},
    },
}
POD = {
    "metadata": {"name": "pod-a"},
    "spec": {"nodeName": "worker-1"},
    "status": {"phase": "Running", "conditions": [READY]},
}
LOADING = {
    "metadata": {"name": "pod-b"},
    "spec": {},
    "status": {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
    },
}
CLUSTER = Cluster(Path("kubeconfig"), Path("kubectl"), "https://10.77.2.2:6443", (), None)
ENDPOINTS = Endpoints("serving", "mnist-deployment", "mnist-service", "10.96.0.9", 8500, 8501, (), "render")


class Kubectl:
    """A cluster as it would answer; what was asked."""

    def __init__(self, *_: object) -> None:
        self.pods = [POD, LOADING]
        self.deployments = {
            "mnist-deployment": {"spec": {"selector": {"matchLabels": {"app": "mnist-server"}}}}
        }

    def get(self, kind: str, *, namespace: str = "", selector: str = "") -> dict[str, Any]:
        assert (kind, namespace, selector) == ("nodes", "", "")
        return {"items": [NODE, LOST, PRESSED]}

    def pages(self, path: str, selector: str = "") -> Iterator[dict[str, Any]]:
        assert (path, selector) == ("/api/v1/namespaces/serving/pods", "app=mnist-server")
        yield {"items": self.pods[:1]}
        yield {"items": self.pods[1:]}

    def find(self, kind: str, name: str, *, namespace: str = "") -> dict[str, Any] | None:
        assert (kind, namespace) == ("deployment", "serving")
        return self.deployments.get(name)


class Gone(Kubectl):
    def get(self, kind: str, **_: object) -> dict[str, Any]:
        raise CommandError(("kubectl",), 1, "connection refused")

    def pages(self, path: str, selector: str = "") -> Iterator[dict[str, Any]]:
        raise CommandError(("kubectl",), 1, "connection refused")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(State(tmp_path / "s"), tmp_path / "run", tmp_path)


@pytest.fixture
def up(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A lab whose second host is off, with a cluster and a deployment on record."""

    class Backend:
        def status(self, _: Context) -> tuple[HostStatus, ...]:
            return (
                HostStatus("cp", "10.77.2.2", "running", "control_plane"),
                HostStatus("worker-1", "10.77.2.3", "stopped"),
            )

    monkeypatch.setattr(now, "made_here", lambda _: Backend())
    monkeypatch.setattr(kubectl.Kubectl, "of", lambda _: Kubectl())
    ctx.state.keep(CLUSTER)
    ctx.state.keep(ENDPOINTS)
    return ctx


def test_nothing_at_all_is_said(ctx: Context) -> None:
    document, lines = now.status_of(ctx)
    assert document == {"hosts": [], "nodes": [], "replicas": [], "certificates": [], "last_run": None}
    assert lines == [
        "hosts: none",
        "nodes: none",
        "replicas: none",
        "certificates: none",
        "last run: none",
    ]
    assert not ctx.state.root.exists()


def test_each_host_node_and_replica_has_its_state(up: Context) -> None:
    document, lines = now.status_of(up)
    assert [(row["name"], row["state"]) for row in document["hosts"]] == [
        ("cp", "running"),
        ("worker-1", "stopped"),
    ]
    assert [row["state"] for row in document["nodes"]] == [
        "Ready, v1.36.3",
        "is not ready: Kubelet stopped posting, v1.36.3",
        "Ready, has DiskPressure, taint example.com/gpu=yes:NoSchedule, v1.36.3",
    ]
    helps = [row["detail"] for row in document["nodes"]]
    assert helps[:2] == ["", "see what is wrong with worker-1: `kubectl describe node worker-1`"]
    assert helps[2].startswith("free disk on the machine behind the node: ")
    assert helps[2].endswith("`kubectl taint nodes worker-2 example.com/gpu-`")
    assert [row["state"] for row in document["replicas"]] == [
        "ready on worker-1",
        "not ready: Unschedulable on no node",
    ]
    assert lines[:3] == [
        "hosts:",
        f"  {'cp':<40} running: control_plane",
        f"  {'worker-1':<40} stopped",
    ]


def test_replicas_of_several_models_are_told_by_their_names(up: Context) -> None:
    up.state.forget(Endpoints)
    up.state.of("mnist").keep(ENDPOINTS)
    up.state.of("old").keep(replace(ENDPOINTS, deployment="old-deployment"))
    document, lines = now.status_of(up)
    assert [(row["model"], row["name"], row["state"]) for row in document["replicas"]] == [
        ("mnist", "pod-a", "ready on worker-1"),
        ("mnist", "pod-b", "not ready: Unschedulable on no node"),
        ("old", "old-deployment", "gone"),
    ]
    assert f"  {'mnist: pod-a':<40} ready on worker-1" in lines


def test_a_cluster_that_does_not_answer_hides_nothing_else(
    up: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubectl.Kubectl, "of", lambda _: Gone())
    document, lines = now.status_of(up)
    assert len(document["hosts"]) == 2
    assert "does not answer" in document["nodes"][0]["state"]
    assert sum("does not answer" in line for line in lines) == 2


@pytest.mark.parametrize(
    ("ok", "stages", "outcome"),
    [
        (True, [("hosts", "changed")], "ok"),
        (False, [("hosts", "changed"), ("provision", "failed")], "failed at provision"),
        (False, [], "failed at no stage: nothing ran"),
    ],
)
def test_the_last_run_is_told(ctx: Context, ok: bool, stages: list[tuple[str, str]], outcome: str) -> None:
    run = ctx.state.runs / "20261122T101010Z"
    run.mkdir(parents=True)
    (ctx.state.runs / "latest").symlink_to(run.name)
    document = {"ok": ok, "stages": [{"name": name, "status": state} for name, state in stages]}
    (run / "run.json").write_text(json.dumps(document))
    _, lines = now.status_of(ctx)
    assert lines[-1] == f"last run: {outcome} (20261122T101010Z)"


def test_a_cluster_without_a_deployment_has_nodes_only(up: Context) -> None:
    up.state.forget(Endpoints)
    document, _ = now.status_of(up)
    assert len(document["nodes"]) == 3
    assert document["replicas"] == []


def test_of_many_replicas_those_that_are_as_they_should_be_are_counted(
    up: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Kubectl()
    cluster.pods = [LOADING, *({**POD, "metadata": {"name": f"pod-{number}"}} for number in range(60))]
    monkeypatch.setattr(kubectl.Kubectl, "of", lambda _: cluster)
    document, lines = now.status_of(up)
    assert len(document["replicas"]) == 61
    place = lines.index("replicas:")
    assert lines[place + 1 : place + 3] == [
        f"  {'60 of 61':<40} ready",
        f"  {'pod-b':<40} not ready: Unschedulable on no node",
    ]
    assert lines[place + 3].startswith("certificates")
