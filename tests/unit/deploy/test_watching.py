"""What holds a rollout up, told from objects as a cluster gives them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.clients.kubectl import KubectlError
from slipway.clients.pods import GRACE
from slipway.core.context import Context
from slipway.core.errors import CommandError, DeployError
from slipway.core.events import Event, ProgressAdvanced, ProgressFinished
from slipway.core.state import State
from slipway.deploy import watching
from slipway.deploy.faults import faults
from slipway.deploy.watching import Progress, progress_of
from slipway_stacks.outputs import Names

from tests.standins.clock import Clock, stopped

CASES = sorted((Path(__file__).parents[2] / "cases" / "deploy").glob("*.yaml"))
DEPLOYMENT_UID, SET_UID = "D", "S"


def deployment(status: dict[str, Any], *, replicas: int = 3, generation: int = 2) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {
            "name": "mnist-deployment",
            "uid": DEPLOYMENT_UID,
            "generation": generation,
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 2} | status,
    }


def replica_set(revision: str, ready: int, uid: str = SET_UID) -> dict[str, Any]:
    return {
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"mnist-deployment-{revision}",
            "uid": uid,
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"uid": DEPLOYMENT_UID, "controller": True}],
        },
        "status": {"readyReplicas": ready},
    }


ALL = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
PROGRESS = [
    ("all ready", deployment(ALL), [replica_set("2", 3)], Progress(3, 0, 3, True)),
    (
        "the controller has not looked yet",
        deployment(ALL, generation=3),
        [replica_set("2", 3)],
        Progress(0, 3, 3, False),
    ),
    (
        "an old one is left",
        deployment({**ALL, "replicas": 4, "readyReplicas": 4}),
        [replica_set("2", 3), replica_set("1", 1, "T")],
        Progress(3, 1, 3, False),
    ),
    (
        "old ones serve, the new one does not",
        deployment({"replicas": 4, "updatedReplicas": 1, "readyReplicas": 3, "unavailableReplicas": 1}),
        [replica_set("2", 0), replica_set("1", 3, "T")],
        Progress(0, 3, 3, False),
    ),
    ("nothing yet", deployment({}), [], Progress(0, 0, 3, False)),
    ("scaled to nothing", deployment({}, replicas=0), [], Progress(0, 0, 0, True)),
]


@pytest.mark.parametrize(
    ("found", "sets", "expected"), [case[1:] for case in PROGRESS], ids=[c[0] for c in PROGRESS]
)
def test_how_far_a_rollout_is(found: dict[str, Any], sets: list[dict[str, Any]], expected: Progress) -> None:
    assert progress_of(found, sets) == expected


def test_there_are_cases() -> None:
    assert len(CASES) >= 8


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_faults(file: Path) -> None:
    """A case: `pods`, `nodes` and `conditions` as the cluster gives them, and the faults they must give.

    actions: words that what the first fault advises must have.
    """
    case = yaml.safe_load(file.read_text())
    pods = []
    for number, given in enumerate(case.get("pods", [])):
        meta = {
            "name": f"pod-{number}",
            "ownerReferences": [{"uid": given.get("owner", SET_UID), "controller": True}],
        }
        if given.get("leaving"):
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        spec = {"nodeName": given["node"]} if "node" in given else {}
        pods.append({"kind": "Pod", "metadata": meta, "spec": spec, "status": given["status"]})
    found = faults(
        deployment({"conditions": case.get("conditions", [])}),
        [replica_set("2", 0)],
        pods,
        case.get("nodes", []),
    )
    told = [
        {
            key: getattr(fault, key)
            for key in ("kind", "what", "pod", "node", "container", "message")
            if getattr(fault, key)
        }
        for fault in found
    ]
    assert told == case["faults"]
    assert all(fault.action for fault in found)
    assert [word for word in case.get("actions", []) if word not in found[0].action] == []
    assert all(fault.kind in GRACE for fault in found)


class Cluster:
    """Answers one look after the other; the last one for ever."""

    kubeconfig = Path("kubeconfig")

    def __init__(self, *looks: list[dict[str, Any]]) -> None:
        self.looks = list(looks)
        self.seen: list[dict[str, Any]] = []

    def get(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.seen = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {"items": [item for item in self.seen if item["kind"] != "Pod"]}

    def run(self, args: list[str], **_: Any) -> Any:
        raise AssertionError(f"nothing to ask of {args}")


class Told(contextlib.AbstractContextManager["Told"]):
    """What a watch would know at the time of a look."""

    def __init__(self, cluster: Cluster, *_: Any) -> None:
        self.cluster = cluster

    def __exit__(self, *_: object) -> None:
        """Nothing runs."""

    def now(self) -> list[dict[str, Any]]:
        return [item for item in self.cluster.seen if item["kind"] == "Pod"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(watching, "PodWatch", Told)
    return stopped(monkeypatch, watching)


def wait(cluster: Cluster, tmp_path: Path, timeout: float = 100) -> list[Event]:
    events: list[Event] = []
    ctx = Context(State(tmp_path), tmp_path / "run", tmp_path, emit=events.append)
    watching.wait_ready(ctx, cluster, "serving", Names("mnist"), timeout)  # type: ignore[arg-type]  # a stand-in
    return events


def pull_failure(message: str) -> list[dict[str, Any]]:
    status = {
        "name": "mnist-container",
        "image": "r/m@sha256:0",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}},
    }
    pod = {
        "kind": "Pod",
        "metadata": {"name": "p", "ownerReferences": [{"uid": SET_UID, "controller": True}]},
        "spec": {"nodeName": "worker-1"},
        "status": {"containerStatuses": [status]},
    }
    return [deployment({}), replica_set("2", 0), pod]


class Pressed(Cluster):
    """A cluster whose nodes can be asked for; nodes None: this user may not."""

    def __init__(self, nodes: list[dict[str, Any]] | None, *looks: list[dict[str, Any]]) -> None:
        super().__init__(*looks)
        self.nodes = nodes
        self.asked = 0

    def get(self, kind: str = "", *_: Any, **__: Any) -> dict[str, Any]:
        if kind != "nodes":
            return super().get()
        self.asked += 1
        if self.nodes is None:
            words = (
                'Error from server (Forbidden): nodes is forbidden: User "guest" cannot list resource "nodes"'
            )
            raise KubectlError(CommandError(("kubectl",), 1, words), "kubectl")
        return {"items": self.nodes}


def child(name: str, status: dict[str, Any], node: str = "") -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "ownerReferences": [{"uid": SET_UID, "controller": True}]},
        "spec": {"nodeName": node} if node else {},
        "status": status,
    }


EVICTED = child("gone", {"phase": "Failed", "reason": "Evicted", "message": "The node was low."}, "worker-1")
UNPLACED = child(
    "waits",
    {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}
        ],
    },
)
FULL = {
    "metadata": {"name": "worker-1"},
    "spec": {},
    "status": {"conditions": [{"type": "DiskPressure", "status": "True"}]},
}


def test_a_full_disk_is_the_cause_that_is_told(clock: Clock, tmp_path: Path) -> None:
    cluster = Pressed([FULL], [deployment({}), replica_set("2", 0), EVICTED, UNPLACED])
    with pytest.raises(DeployError) as caught:
        wait(cluster, tmp_path)
    assert caught.value.what.startswith("no node takes the pod: worker-1 has DiskPressure; 0 of 3")
    assert "gone was evicted from worker-1: The node was low." in caught.value.tail
    assert caught.value.action.startswith("free disk on the machine behind the node")
    assert clock.now < 20


def test_a_user_who_may_not_list_nodes_is_told_the_rest(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="no node takes the pod; 0 of 3") as caught:
        wait(Pressed(None, [deployment({}), replica_set("2", 0), EVICTED, UNPLACED]), tmp_path)
    assert "gone was evicted" in caught.value.tail


def test_an_evicted_pod_is_no_failure_while_others_may_stand_in(clock: Clock, tmp_path: Path) -> None:
    going = [deployment({}), replica_set("2", 0), EVICTED]
    wait(Pressed([FULL], *[going] * 50, [deployment(ALL), replica_set("2", 3), EVICTED]), tmp_path)
    with pytest.raises(DeployError, match="1 pod was evicted") as caught:
        wait(Pressed([FULL], going), tmp_path, timeout=60)
    assert "node worker-1 has DiskPressure" in caught.value.tail
    # from a node that is well again it is past, and only in the list of what is not ready
    with pytest.raises(DeployError, match="after 60 s") as caught:
        wait(Pressed([{**FULL, "status": {}}], going), tmp_path, timeout=60)
    assert caught.value.tail == "gone: Evicted: The node was low."


def test_nodes_are_asked_for_only_when_they_can_explain(clock: Clock, tmp_path: Path) -> None:
    cluster = Pressed([], [deployment({}), replica_set("2", 0)], [deployment(ALL), replica_set("2", 3)])
    wait(cluster, tmp_path)
    assert cluster.asked == 0


def test_waits_until_all_are_ready(clock: Clock, tmp_path: Path) -> None:
    some = [deployment({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 1}), replica_set("2", 1)]
    events = wait(Cluster(some, some, [deployment(ALL), replica_set("2", 3)]), tmp_path)
    assert [event.done for event in events if isinstance(event, ProgressAdvanced)][-1] == 3
    assert events[-1] == ProgressFinished("replicas of mnist-deployment ready", ok=True)


def test_a_final_failure_ends_the_wait_at_once(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="cannot be pulled"):
        wait(Cluster(pull_failure("manifest unknown: not found")), tmp_path)
    assert clock.now < 5


def test_a_failure_that_may_pass_gets_its_time(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="cannot be pulled"):
        wait(Cluster(pull_failure("i/o timeout")), tmp_path)
    assert 25 <= clock.now < 30
    # one that passes in that time does not end the wait
    wait(
        Cluster(*[pull_failure("i/o timeout")] * 10, [deployment(ALL), replica_set("2", 3)]),
        tmp_path,
    )


def test_a_failure_that_comes_and_goes_starts_anew(clock: Clock, tmp_path: Path) -> None:
    broken, quiet = pull_failure("i/o timeout"), [deployment({}), replica_set("2", 0)]
    looks = [*[broken] * 20, quiet, *[broken] * 20, [deployment(ALL), replica_set("2", 3)]]
    wait(Cluster(*looks), tmp_path)


def test_the_deadline_is_a_failure_that_says_who_is_not_ready(clock: Clock, tmp_path: Path) -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "slow", "ownerReferences": [{"uid": SET_UID, "controller": True}]},
        "spec": {"nodeName": "worker-1"},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"}
            ]
        },
    }
    with pytest.raises(DeployError) as caught:
        wait(Cluster([deployment({}), replica_set("2", 0), pod]), tmp_path, timeout=20)
    assert caught.value.what == "0 of 3 replicas are ready after 20 s"
    assert caught.value.tail == "slow: ContainersNotReady: m"
    assert 20 <= clock.now < 25


def test_a_deployment_that_vanishes(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="is gone"):
        wait(Cluster([deployment({}), replica_set("2", 0)], []), tmp_path)
