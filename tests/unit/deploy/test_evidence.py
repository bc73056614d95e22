"""What of a deployment is read after a failure: everything but secrets, the pods in trouble first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core.errors import CommandError
from slipway.core.process import Completed
from slipway.deploy.evidence import readings


def pod(name: str, *, ready: bool, **container: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"conditions": [condition], "containerStatuses": [container] if container else []}
    return {"metadata": {"name": name}, "status": status}


class Recorder(Kubectl):
    """Answers the list of pods, and remembers the rest."""

    answer = Completed(("kubectl",), 0, "", "")

    def run(self, args: Any, input: Any = None, timeout: float = 60.0, **_more: Any) -> Completed:
        if list(args[:2]) == ["get", "pods"]:
            return self.answer
        return Completed(tuple(args), 0, " ".join(args), "")


@pytest.fixture
def kubectl() -> Recorder:
    return Recorder(Path("kubectl"), Path("kubeconfig"))


def test_logs_are_those_of_containers_that_started_and_the_unready_pods_come_first(
    kubectl: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = [
        pod("well", ready=True, state={"running": {}}, lastState={}),
        pod("placeless", ready=False),
        pod("crashing", ready=False, state={"waiting": {}}, lastState={"terminated": {}}),
        pod("slow", ready=False, state={"running": {}}, lastState={"terminated": {}}),
    ]
    listed = Completed(("kubectl",), 0, json.dumps({"items": pods}), "")
    monkeypatch.setattr(Recorder, "answer", listed)
    found = readings(kubectl, "serving")
    assert [one.name.removeprefix("deploy/") for one in found] == [
        "objects.yaml",
        "events.txt",
        "describe.txt",
        "nodes.txt",
        "crashing.previous.log",
        "slow.log",
        "slow.previous.log",
        "well.log",
    ]
    said = {one.name: one.read(5) for one in found}
    assert not any("secret" in text for text in said.values())
    assert said["deploy/slow.previous.log"].endswith("slow --previous -n serving")


def test_a_cluster_that_does_not_answer_still_has_its_readings_which_say_so(
    kubectl: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_args: Any, **_more: Any) -> Completed:
        raise KubectlError(CommandError(("kubectl",), -15, "no end after 5 s"), "here")

    monkeypatch.setattr(Recorder, "run", late)
    assert len(readings(kubectl, "serving")) == 4


def test_of_many_pods_those_that_are_not_ready_are_read(
    kubectl: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: dict[str, Any] = {"state": {"running": {}}, "lastState": {}}
    pods = [pod(f"well-{number}", ready=True, **running) for number in range(3000)]
    pods.append(pod("slow", ready=False, **running))
    listed = Completed(("kubectl",), 0, json.dumps({"items": pods}), "")
    monkeypatch.setattr(Recorder, "answer", listed)
    found = {one.name.removeprefix("deploy/"): one for one in readings(kubectl, "serving")}
    assert len(found) < 60
    assert next(name for name in found if name.endswith(".log")) == "slow.log"
    assert found["describe.txt"].read(5) == "describe deployment,replicaset,service -n serving"
    assert found["describe-pods.txt"].read(5).startswith("describe pod slow well-0 well-1 ")
