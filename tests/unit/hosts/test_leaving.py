"""Hosts that are removed are drained first, and removed whatever comes of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core.context import Context
from slipway.core.errors import CommandError
from slipway.core.events import Event, Note
from slipway.core.process import Completed
from slipway.core.state import State
from slipway.core.types import Cluster, Node
from slipway.hosts.leaving import drain

NODES = tuple(Node(name, "10.0.0.2", "worker", "v1.36.3") for name in ("cp", "worker-1", "worker-2"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What kubectl was told; every command succeeds."""
    commands: list[list[str]] = []

    def run(_self: Kubectl, args: list[str], **_more: Any) -> Completed:
        commands.append(args)
        return Completed(tuple(args), 0, "", "")

    monkeypatch.setattr(Kubectl, "run", run)
    return commands


def context(folder: Path, said: list[Event]) -> Context:
    ctx = Context(State(folder / "s"), folder / "run", folder, emit=said.append)
    keep(ctx, ctx.state.kubeconfig)
    return ctx


def keep(ctx: Context, kubeconfig: Path) -> None:
    ctx.state.keep(Cluster(kubeconfig, Path("kubectl"), "https://10.0.0.1:6443", NODES, None))


def test_nodes_of_the_cluster_are_drained_and_no_others(tmp_path: Path, ran: list[list[str]]) -> None:
    drain(context(tmp_path, []), ["worker-2", "never-joined"])
    assert [args[:2] for args in ran] == [["drain", "worker-2"]]


def test_a_cluster_that_was_brought_along_is_left_alone(tmp_path: Path, ran: list[list[str]]) -> None:
    ctx = context(tmp_path, [])
    keep(ctx, tmp_path / "config")
    drain(ctx, ["worker-2"])
    assert ran == []


def test_without_a_cluster_there_is_nothing_to_drain(tmp_path: Path, ran: list[list[str]]) -> None:
    drain(Context(State(tmp_path / "s"), tmp_path / "run", tmp_path), ["worker-2"])
    assert ran == []


def test_pods_that_cannot_move_are_told_and_keep_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Kubectl, args: list[str], **_more: Any) -> Completed:
        output = "evicting pod serving/a\nerror: global timeout reached: 1m30s"
        raise KubectlError(CommandError(("kubectl", *args), 1, output), "here")

    monkeypatch.setattr(Kubectl, "run", refuse)
    said: list[Event] = []
    drain(context(tmp_path, said), ["worker-1", "worker-2"])
    assert [event.text for event in said if isinstance(event, Note)] == [
        f"node {name} could not be drained, its pods end with its host: error: global timeout reached: 1m30s"
        for name in ("worker-1", "worker-2")
    ]
