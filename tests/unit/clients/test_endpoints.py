"""Which pods answer behind a Service, and which do not belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from slipway.clients.endpoints import Stray, find_endpoints, match
from slipway.clients.kubectl import Kubectl
from slipway.core.errors import SlipwayError
from slipway.core.types import Replica

DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "mnist-deployment", "namespace": "serving", "uid": "D"},
    "spec": {"replicas": 3},
}
SERVICE = {
    "kind": "Service",
    "metadata": {"name": "mnist-service", "namespace": "serving"},
    "spec": {
        "clusterIP": "10.96.0.9",
        "selector": {"app": "mnist-server"},
        "ports": [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}],
    },
}
SET = {
    "kind": "ReplicaSet",
    "metadata": {
        "name": "mnist-deployment-7f",
        "uid": "S",
        "ownerReferences": [{"kind": "Deployment", "uid": "D", "controller": True}],
    },
}


def pod(name: str, *, owner: str | None = "S", ready: bool = True, **more: Any) -> dict[str, Any]:
    number = name[-1]
    meta: dict[str, Any] = {
        "name": name,
        "generateName": "mnist-deployment-7f-",
        "labels": {"app": "mnist-server"} | more.pop("labels", {}),
    }
    if owner:
        meta["ownerReferences"] = [{"kind": "ReplicaSet", "uid": owner, "controller": True}]
    if more.pop("leaving", False):
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = {
        "phase": "Running",
        "podIP": f"10.244.0.{number}",
        "conditions": [
            {"type": "Ready", "status": "True" if ready else "False", "reason": "ContainersNotReady"}
        ],
    } | more.pop("status", {})
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": f"worker-{number}"} | more,
        "status": status,
    }


def slices(*pods: str, service: str = "mnist-service", **conditions: bool) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}],
        "endpoints": [
            {
                "addresses": [f"10.244.0.{name[-1]}"],
                "conditions": conditions or {"ready": True},
                "targetRef": {"kind": "Pod", "name": name},
            }
            for name in pods
        ],
    }


def replica(name: str) -> Replica:
    return Replica(name, f"worker-{name[-1]}", f"10.244.0.{name[-1]}", 8500, 8501)


def test_three_replicas_in_order() -> None:
    found = match(
        DEPLOYMENT, SERVICE, [SET, pod("p2"), pod("p1"), pod("p3"), slices("p3", "p1", "p2")], "render"
    )
    assert found.endpoints.replicas == (replica("p1"), replica("p2"), replica("p3"))
    assert found.strays == ()
    assert found.wanted == 3
    endpoints = found.endpoints
    assert (endpoints.service_address, endpoints.grpc_port, endpoints.rest_port) == ("10.96.0.9", 8500, 8501)


def test_slices_are_joined_and_other_services_ignored() -> None:
    items = [SET, pod("p1"), pod("p2"), slices("p1"), slices("p2"), slices("p1", service="mnist-replicas")]
    assert match(DEPLOYMENT, SERVICE, items, "render").endpoints.replicas == (replica("p1"), replica("p2"))


def test_unset_ready_counts_as_ready() -> None:
    items = [SET, pod("p1"), slices("p1", serving=True)]
    assert match(DEPLOYMENT, SERVICE, items, "render").endpoints.replicas == (replica("p1"),)


STRAYS: list[tuple[str, list[dict[str, Any]], Stray]] = [
    (
        "relabelled so far that the ReplicaSet let go",
        [pod("p9", owner=None, labels={"app": "other"})],
        Stray("p9", "worker-9", "the Deployment let go of it: its labels are now app=other"),
    ),
    (
        "a pod of somebody else behind our Service",
        [pod("p9", owner="else"), slices("p9")],
        Stray("p9", "worker-9", "answers behind mnist-service but is not a pod of the Deployment"),
    ),
    (
        "ready but not selected",
        [pod("p9", labels={"app": "x"})],
        Stray(
            "p9",
            "worker-9",
            "ready but not behind mnist-service: app is x, the Service selects mnist-server",
        ),
    ),
    (
        "ready but not listed",
        [pod("p9")],
        Stray("p9", "worker-9", "ready but not behind mnist-service: no EndpointSlice lists it as ready"),
    ),
    (
        "not ready",
        [pod("p9", ready=False), slices("p9", ready=False)],
        Stray("p9", "worker-9", "not ready: ContainersNotReady"),
    ),
    (
        "not ready, with the container's reason",
        [
            pod(
                "p9",
                ready=False,
                status={
                    "containerStatuses": [
                        {
                            "name": "c",
                            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                        }
                    ]
                },
            )
        ],
        Stray("p9", "worker-9", "not ready: container c: CrashLoopBackOff: back-off"),
    ),
    (
        "an address without a pod",
        [slices("p9")],
        Stray("p9", "", "an address behind mnist-service that belongs to no pod here"),
    ),
]


@pytest.mark.parametrize(("items", "stray"), [case[1:] for case in STRAYS], ids=[case[0] for case in STRAYS])
def test_strays_are_named(items: list[dict[str, Any]], stray: Stray) -> None:
    found = match(DEPLOYMENT, SERVICE, [SET, pod("p1"), slices("p1"), *items], "render")
    assert found.endpoints.replicas == (replica("p1"),)
    assert found.strays == (stray,)


@pytest.mark.parametrize(
    "items",
    [
        [pod("p9", leaving=True), slices("p9")],
        [pod("p9", leaving=True, owner=None, labels={"app": "other"})],
        [pod("p9", status={"phase": "Failed"}, ready=False)],
        [pod("p9", owner=None) | {"metadata": {"name": "p9", "labels": {"app": "x"}}}],
        [slices("p9", ready=False)],
    ],
    ids=["leaving", "leaving and let go", "evicted", "nothing of ours", "an address that is not ready"],
)
def test_what_is_no_stray(items: list[dict[str, Any]]) -> None:
    found = match(DEPLOYMENT, SERVICE, [SET, pod("p1"), slices("p1"), *items], "render")
    assert found.endpoints.replicas == (replica("p1"),)
    assert found.strays == ()


def test_a_load_balancers_address_is_the_services() -> None:
    service = {**SERVICE, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
    assert match(DEPLOYMENT, service, [SET], "engine").endpoints.service_address == "192.0.2.7"


class Answering(Kubectl):
    """A cluster that has these objects; counts what it is asked."""

    asked: ClassVar[list[str]] = []
    items: ClassVar[list[dict[str, Any]]] = []

    def get(self, kind: str, *_: Any, **__: Any) -> dict[str, Any]:
        self.asked.append(kind)
        return {"items": [item for item in self.items if item["kind"] != "Pod"]}

    def pages(self, path: str, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(path)
        yield {"items": [item for item in self.items if item["kind"] == "Pod"]}


def answering(*items: dict[str, Any]) -> Answering:
    kubectl = Answering(Path("kubectl"), Path("kubeconfig"))
    kubectl.asked.clear()
    kubectl.items[:] = items
    return kubectl


def test_no_deployment_is_said_in_a_sentence() -> None:
    with pytest.raises(SlipwayError, match="no Deployment mnist-deployment in namespace serving"):
        find_endpoints(answering(SERVICE), "serving", "mnist-deployment", "mnist-service", "render")


def test_everything_is_asked_once_and_pods_in_pages() -> None:
    items = [DEPLOYMENT, SERVICE, SET, pod("p1"), slices("p1")]
    kubectl = answering(*items)
    found = find_endpoints(kubectl, "serving", "mnist-deployment", "mnist-service", "render")
    assert found == match(DEPLOYMENT, SERVICE, items, "render")
    kinds = "deployments,services,replicasets,endpointslices"
    assert kubectl.asked == ["/api/v1/namespaces/serving/pods", kinds]
