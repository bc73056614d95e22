"""Nodes whose hosts are gone are forgotten, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core import retry
from slipway.core.context import Context
from slipway.core.errors import CommandError
from slipway.core.events import Event, Note
from slipway.core.process import Completed
from slipway.core.state import State
from slipway.core.types import Cluster, Host, Hosts, Node
from slipway.provision.leaving import forget_nodes

from tests.standins.clock import stopped


class Answering:
    """In the place of kubectl's answers: nodes by name, and what was deleted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **ready: str) -> None:
        self.nodes = {name.replace("_", "-"): state for name, state in ready.items()}
        self.deleted: list[str] = []
        monkeypatch.setattr(Kubectl, "get", lambda _self, _kind: {"items": self.items()})
        monkeypatch.setattr(Kubectl, "run", lambda _self, args: self.run(args))

    def items(self) -> list[dict[str, Any]]:
        return [
            {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": state}]}}
            for name, state in self.nodes.items()
        ]

    def run(self, args: list[str]) -> Completed:
        assert args[:2] == ["delete", "node"]
        self.deleted.append(args[2])
        return Completed(tuple(args), 0, "", "")


def hosts(backend: str, *names: str) -> Hosts:
    return Hosts(backend, tuple(Host(name, "10.0.0.2", "root", "k", ()) for name in names))


def context(folder: Path, *names: str, said: list[Event] | None = None) -> Context:
    ctx = Context(State(folder / "s"), folder / "run", folder, emit=(said if said is not None else []).append)
    nodes = tuple(Node(name, "10.0.0.2", "worker", "v1.36.3") for name in names)
    ctx.state.keep(Cluster(ctx.state.kubeconfig, Path("kubectl"), "https://10.0.0.1:6443", nodes, None))
    return ctx


def test_a_lab_host_that_is_gone_takes_its_node_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the cluster has not noticed yet that it is gone."""
    cluster = Answering(monkeypatch, cp="True", worker_1="True", worker_2="True")
    ctx = context(tmp_path, "cp", "worker-1", "worker-2")
    assert forget_nodes(ctx, hosts("nspawn", "cp", "worker-1")) == 1
    assert cluster.deleted == ["worker-2"]


def test_a_machine_taken_out_of_an_inventory_keeps_its_node_while_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Answering(monkeypatch, cp="True", worker_1="True", worker_2="Unknown")
    ctx = context(tmp_path, "cp", "worker-1", "worker-2")
    assert forget_nodes(ctx, hosts("ssh", "cp")) == 1
    assert cluster.deleted == ["worker-2"]


def test_nodes_that_nobody_here_provisioned_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Answering(monkeypatch, cp="True", worker_1="True", stranger="Unknown", other="Unknown")
    assert forget_nodes(context(tmp_path, "cp", "worker-1"), hosts("nspawn", "cp", "worker-1")) == 0
    # an inventory of wholly other names says nothing of these nodes
    assert forget_nodes(context(tmp_path, "cp", "worker-1"), hosts("ssh", "a", "b")) == 0
    assert cluster.deleted == []


def test_a_cluster_that_was_brought_along_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a host of this lab has the name of one of its nodes."""
    cluster = Answering(monkeypatch, cp="True", theirs="Unknown")
    ctx = context(tmp_path, "cp", "theirs")
    found = ctx.state.own_cluster()
    assert found is not None
    ctx.state.keep(replace(found, kubeconfig=tmp_path / "config"))
    assert forget_nodes(ctx, hosts("nspawn", "cp")) == 0
    assert cluster.deleted == []


def test_a_node_forgotten_already_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Answering(monkeypatch, cp="True")
    assert forget_nodes(context(tmp_path, "cp", "worker-1"), hosts("nspawn", "cp")) == 0
    assert cluster.deleted == []


def test_before_there_is_a_cluster_nothing_is_asked(tmp_path: Path) -> None:
    ctx = Context(State(tmp_path / "s"), tmp_path / "run", tmp_path)
    assert forget_nodes(ctx, hosts("nspawn", "cp")) == 0


def test_a_cluster_that_does_not_answer_is_left_to_the_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Kubectl, _kind: str) -> dict[str, Any]:
        raise KubectlError(CommandError(("kubectl",), 1, "connection refused"), "here")

    monkeypatch.setattr(Kubectl, "get", refuse)
    stopped(monkeypatch, retry)
    said: list[Event] = []
    assert forget_nodes(context(tmp_path, "cp", "worker-1", said=said), hosts("nspawn", "cp")) == 0
    (note,) = [event.text for event in said if isinstance(event, Note)]
    assert note.startswith("nodes without hosts (worker-1) stay until the cluster answers: ")
