from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.backends.base import HostStatus
from infra.core.context import Context
from infra.core.errors import CommandError
from infra.core.schema import Settings
from infra.core.state import State, write_atomically
from infra.core.types import Cluster, Endpoints, dump
from infra.overview import status
from stacks import outputs

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

    def get(self, kind: str, *, namespace: str = "", selector: str = "") -> dict[str, Any]:
        if kind == "nodes":
            return {"items": [NODE, LOST]}
        assert (kind, namespace) == ("pods", "serving")
        assert dict([selector.split("=")]) == outputs.SELECTOR
        return {"items": self.pods}


class Gone(Kubectl):
    def get(self, kind: str, **_: object) -> dict[str, Any]:
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

    monkeypatch.setattr(status, "made_here", lambda _: Backend())
    monkeypatch.setattr(status, "Kubectl", Kubectl)
    write_atomically(ctx.state.values / "provision.json", dump(CLUSTER))
    write_atomically(ctx.state.values / "deploy.json", dump(ENDPOINTS))
    return ctx


def test_nothing_at_all_is_said(ctx: Context) -> None:
    document, lines = status.status_of(ctx, Settings())
    assert document == {"hosts": [], "nodes": [], "replicas": [], "last_run": None}
    assert lines == ["hosts: none", "nodes: none", "replicas: none", "last run: none"]
    assert not ctx.state.root.exists()


def test_each_host_node_and_replica_has_its_state(up: Context) -> None:
    document, lines = status.status_of(up, Settings())
    assert [(row["name"], row["state"]) for row in document["hosts"]] == [
        ("cp", "running"),
        ("worker-1", "stopped"),
    ]
    assert [row["state"] for row in document["nodes"]] == [
        "Ready, v1.36.3",
        "not ready: Kubelet stopped posting, v1.36.3",
    ]
    assert [row["state"] for row in document["replicas"]] == [
        "ready on worker-1",
        "not ready: Unschedulable on no node",
    ]
    assert lines[:3] == [
        "hosts:",
        f"  {'cp':<40} running: control_plane",
        f"  {'worker-1':<40} stopped",
    ]


def test_a_cluster_that_does_not_answer_hides_nothing_else(
    up: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "Kubectl", Gone)
    document, lines = status.status_of(up, Settings())
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
    _, lines = status.status_of(ctx, Settings())
    assert lines[-1] == f"last run: {outcome} (20261122T101010Z)"


def test_a_cluster_without_a_deployment_has_nodes_only(up: Context) -> None:
    (up.state.values / "deploy.json").unlink()
    document, _ = status.status_of(up, Settings())
    assert len(document["nodes"]) == 2
    assert document["replicas"] == []
