"""Workers that take no pods, and workers that leave: the last tests of the lab, which has one fewer after them."""

from __future__ import annotations

import time

import pytest

from tests.e2e.conftest import Project

pytestmark = pytest.mark.lab


def test_nodes_that_take_no_pods_are_told_with_what_ends_it(lab: Project) -> None:
    lab.kubectl("taint", "nodes", "worker-1", "team=other:NoSchedule")
    lab.kubectl("cordon", "worker-2")
    try:
        status, doctor, smoke = (lab.run(verb) for verb in ("status", "doctor", "smoke"))
        # no node is left for a new replica
        deploy = lab.run("deploy", "--set", "deploy.replicas=4", "--set", "deploy.timeout=60")
    finally:
        lab.kubectl("uncordon", "worker-2")
        lab.kubectl("taint", "nodes", "worker-1", "team-")
    assert "has taint team=other:NoSchedule" in status.out
    for told in (status.out, doctor.out, smoke.err, deploy.err):
        assert "is cordoned" in told
    for told in (status.out, doctor.out, smoke.err, deploy.err):
        assert "`kubectl uncordon worker-2`" in told
    # the replicas that are there answer; the pod that is to ask them finds no node
    assert smoke.code == 1, smoke.err[-4000:]
    assert "node worker-1 has taint team=other:NoSchedule" in smoke.err
    assert "gate failures_from_a_pod" in smoke.err
    assert "Unschedulable" in smoke.err
    assert deploy.code == 6
    assert "no node takes the pod: worker-2 is cordoned" in deploy.err
    for told in (smoke.err, deploy.err):
        assert "`kubectl taint nodes worker-1 team-`" in told
    assert "evidence " in deploy.err.split("times:")[1].split("in all")[0]


def places(lab: Project) -> set[str]:
    """The nodes that pods are on."""
    return {pod["spec"].get("nodeName", "") for pod in lab.get("pods", "--all-namespaces")["items"]}


def test_a_worker_that_leaves_is_drained_and_forgotten(lab: Project) -> None:
    done = lab.run("up", "--set", "hosts.workers=1")
    assert done.code == 0, done.err[-4000:]
    assert "draining node worker-2: done" in done.err
    assert [node["metadata"]["name"] for node in lab.get("nodes")["items"]] == ["cp", "worker-1"]
    assert len(lab.value("provision")["nodes"]) == 2
    deadline = time.monotonic() + 180  # Kubernetes itself collects what DaemonSets had there, a minute later
    while (placed := places(lab)) - {"cp", "worker-1"}:
        assert time.monotonic() < deadline, placed
        time.sleep(2)
    assert {replica["node"] for replica in lab.value("deploy")["replicas"]} == {"worker-1"}
