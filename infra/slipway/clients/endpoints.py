"""Read from the cluster where a deployment's replicas answer, and which pods are not where they belong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from slipway.clients.kubectl import Kubectl
from slipway.clients.pod_watch import every
from slipway.clients.pods import controller_of, is_over, why_not_ready
from slipway.core.errors import SlipwayError
from slipway.core.types import Endpoints, Replica

_SERVICE = "kubernetes.io/service-name"  # the label that says whose an EndpointSlice is


@dataclass(frozen=True)
class Stray:
    """A pod that belongs and does not serve, or serves and does not belong."""

    pod: str
    node: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What the cluster says of a deployment. wanted: replicas its spec asks for."""

    endpoints: Endpoints
    strays: tuple[Stray, ...]
    wanted: int


class _Place(NamedTuple):
    """Where an EndpointSlice says a pod answers."""

    address: str
    grpc_port: int
    rest_port: int
    ready: bool


def find_endpoints(
    kubectl: Kubectl,
    namespace: str,
    deployment: str,
    service: str,
    applied_by: Literal["engine", "render"],
) -> Found:
    """Every replica that answers behind a Service, and the pods that are not where they belong.

    Read from the cluster alone: Deployment, its ReplicaSets, their pods, the Service and its
    EndpointSlices. Raises SlipwayError when the Deployment or the Service does not exist.
    """
    items = list(every(kubectl, namespace))  # before the slices, which follow pods
    items += kubectl.get("deployments,services,replicasets,endpointslices", namespace=namespace)["items"]
    wanted = {"Deployment": deployment, "Service": service}
    objects = {item["kind"]: item for item in items if wanted.get(item["kind"]) == item["metadata"]["name"]}
    for kind, name in wanted.items():
        if kind not in objects:
            raise SlipwayError(
                f"there is no {kind} {name} in namespace {namespace}",
                where=str(kubectl.kubeconfig),
                action="deploy it first: `slipway deploy`",
            )
    return match(objects["Deployment"], objects["Service"], items, applied_by)


def listed(kubectl: Kubectl, namespace: str, service: str) -> int:
    """How many ready addresses the EndpointSlices of a Service have."""
    found = kubectl.get("endpointslices", namespace=namespace, selector=f"{_SERVICE}={service}")
    return sum(place.ready for place in _endpoints(found["items"]).values())


def match(
    deployment: dict[str, Any],
    service: dict[str, Any],
    items: Sequence[dict[str, Any]],
    applied_by: Literal["engine", "render"],
) -> Found:
    """`find_endpoints` without a cluster: items are ReplicaSets, pods and EndpointSlices as read."""
    meta, spec = service["metadata"], service["spec"]
    sets = {
        item["metadata"]["uid"]: item["metadata"]["name"]
        for item in _of(items, "ReplicaSet")
        if controller_of(item) == deployment["metadata"]["uid"]
    }
    slices = [
        item
        for item in _of(items, "EndpointSlice")
        if item["metadata"].get("labels", {}).get(_SERVICE) == meta["name"]
    ]
    behind = _endpoints(slices)
    pods = {str(item["metadata"]["name"]): item for item in _of(items, "Pod")}
    judged = [
        _judge(pod, behind.get(name), service, sets) for name, pod in sorted(pods.items()) if not is_over(pod)
    ]
    judged += [
        Stray(name, "", f"an address behind {meta['name']} that belongs to no pod here")
        for name, place in behind.items()
        if place.ready and name not in pods
    ]
    ports = {port.get("name", ""): port["port"] for port in spec.get("ports", [])}
    endpoints = Endpoints(
        namespace=meta["namespace"],
        deployment=deployment["metadata"]["name"],
        service=meta["name"],
        service_address=_service_address(service),
        grpc_port=ports.get("grpc", 0),
        rest_port=ports.get("rest", 0),
        replicas=tuple(one for one in judged if isinstance(one, Replica)),
        applied_by=applied_by,
    )
    strays = tuple(one for one in judged if isinstance(one, Stray))
    return Found(endpoints, strays, deployment["spec"].get("replicas", 1))


def _judge(
    pod: dict[str, Any], place: _Place | None, service: dict[str, Any], sets: Mapping[str, str]
) -> Replica | Stray | None:
    """A replica if the pod serves as it must, a stray if it does not, None if it need not serve.

    place: its endpoint behind the Service. sets: UID -> name of the Deployment's ReplicaSets.
    """
    name, node, behind = pod["metadata"]["name"], pod["spec"].get("nodeName", ""), service["metadata"]["name"]
    serves = place is not None and place.ready
    if controller_of(pod) not in sets:
        if serves:
            return Stray(name, node, f"answers behind {behind} but is not a pod of the Deployment")
        if _released(pod, sets.values()):
            labels = ", ".join(f"{key}={value}" for key, value in _labels(pod).items())
            return Stray(name, node, f"the Deployment let go of it: its labels are now {labels}")
        return None
    unready = why_not_ready(pod)
    if unready:
        return Stray(name, node, f"not ready: {unready}")
    if place is None or not serves:
        return Stray(name, node, f"ready but not behind {behind}: {_unselected(pod, service)}")
    return Replica(name, node, place.address, place.grpc_port, place.rest_port)


def _of(items: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in items if item["kind"] == kind]


def _labels(item: dict[str, Any]) -> dict[str, str]:
    return dict(item["metadata"].get("labels", {}))


def _released(pod: dict[str, Any], sets: Any) -> bool:
    """Whether one of the ReplicaSets made this pod, though it owns it no longer.

    A ReplicaSet drops its ownerReference from a pod whose labels stop matching and starts another in
    its place; generateName is what still tells where the pod came from.
    """
    return pod["metadata"].get("generateName", "").removesuffix("-") in set(sets)


def _unselected(pod: dict[str, Any], service: dict[str, Any]) -> str:
    labels = _labels(pod)
    wrong = [
        f"{key} is {labels.get(key, 'not set')}, the Service selects {value}"
        for key, value in service["spec"].get("selector", {}).items()
        if labels.get(key) != value
    ]
    return "; ".join(wrong) or "no EndpointSlice lists it as ready"


def _endpoints(slices: Sequence[dict[str, Any]]) -> dict[str, _Place]:
    """Pod (or bare address) -> its endpoint. Dual stack keeps the first address."""
    out: dict[str, _Place] = {}
    for item in slices:
        ports = {port.get("name") or "": port.get("port") or 0 for port in item.get("ports") or []}
        for endpoint in item.get("endpoints") or []:
            address = endpoint["addresses"][0]
            target = endpoint.get("targetRef", {})
            name = target["name"] if target.get("kind") == "Pod" else address
            # an unset `ready` counts as ready, says the EndpointSlice API
            ready = endpoint.get("conditions", {}).get("ready") is not False
            out.setdefault(name, _Place(address, ports.get("grpc", 0), ports.get("rest", 0), ready))
    return out


def _service_address(service: dict[str, Any]) -> str:
    for ingress in service.get("status", {}).get("loadBalancer", {}).get("ingress", []):
        return str(ingress.get("ip") or ingress.get("hostname"))
    return str(service["spec"].get("clusterIP", ""))
