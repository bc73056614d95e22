"""kubectl: what the cluster is asked and told, and where a deployment's replicas answer."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from infra.core import process
from infra.core.errors import CommandError, SlipwayError
from infra.core.process import Completed
from infra.core.state import cache_home
from infra.core.types import Endpoints, Replica

Manifest = dict[str, Any]
Reason = Literal["kubeconfig", "unreachable", "denied", "not_found", "conflict", "invalid", "other"]

# What kubectl prints -> why, in the order they are looked for. The words are client-go's and the API
# server's own; kubectl has one exit code for all of them.
_REASONS: tuple[tuple[Reason, str], ...] = (
    (
        "kubeconfig",  # without a cluster in it kubectl asks localhost:8080
        r"current-context must exist|context was not found|cannot locate|error loading config file"
        r"|error: stat |localhost:8080",
    ),
    ("not_found", r"\(NotFound\)|not found\b"),
    ("conflict", r"\(Conflict\)|conflicts? with|Apply failed with \d+ conflict|\(AlreadyExists\)"),
    ("denied", r"\(Forbidden\)|\(Unauthorized\)|You must be logged in|is forbidden|asked for the client"),
    ("invalid", r"\(Invalid\)|is invalid|\(BadRequest\)|strict decoding error|error validating"),
    (
        "unreachable",
        r"was refused|connection refused|no such host|i/o timeout|no route to host|TLS handshake"
        r"|certificate|context deadline exceeded|Unable to connect|EOF|no end after",
    ),
)
_ACTIONS: dict[Reason, str] = {
    "kubeconfig": "name a kubeconfig that exists and a context in it: cluster.kubeconfig and cluster.context",
    "unreachable": "check that the cluster runs and that the kubeconfig names its address: `slipway status`",
    "denied": "the kubeconfig's user lacks this right: use one that may, or ask the cluster's owner for it",
    "not_found": "something else removed it, or it was never made: `slipway status` tells what is there",
    "conflict": "another tool changed or owns it; change it there, or run the same command again",
    "invalid": "correct what the message names",
    "other": "`slipway env` gives a shell with this kubectl and kubeconfig, to try the command above by hand",
}


class KubectlError(CommandError):
    """kubectl failed. reason tells why, as far as its words do."""

    def __init__(self, error: CommandError, server: str) -> None:
        reason = _reason(error.output)
        super().__init__(error.argv, error.returncode, error.output, where=server, action=_ACTIONS[reason])
        self.reason: Reason = reason


@dataclass(frozen=True)
class Change:
    """One object of a cluster that differs: verb create, change, replace or remove; fields tell where."""

    verb: str
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def line(self) -> str:
        """The change as people read it."""
        detail = f": {'; '.join(self.fields[:4])}" if self.fields else ""
        more = f"; and {len(self.fields) - 4} more" if len(self.fields) > 4 else ""
        return f"{self.verb} {self.kind} {self.name}{detail}{more}"


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


@dataclass(frozen=True)
class Kubectl:
    """One client binary for one cluster; ~/.kube is neither read nor written."""

    binary: Path
    kubeconfig: Path
    context: str | None = None

    def argv(self, args: Sequence[str]) -> list[str]:
        """The whole command line of `kubectl ARGS` against this cluster."""
        words = [str(self.binary), f"--kubeconfig={self.kubeconfig}"]
        if self.context is not None:
            words.append(f"--context={self.context}")
        return [*words, *args]

    def run(
        self,
        args: Sequence[str],
        input: str | None = None,
        timeout: float = 60.0,
        *,
        check: bool = True,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run `kubectl ARGS`; input goes to its stdin, the place for manifests and secrets.

        Raises KubectlError when it fails (and `check`) or takes more than `timeout` seconds.
        """
        try:
            return process.run(
                self.argv(args),
                input=input,
                timeout=timeout,
                check=check,
                env={**_environment(), **(env or {})},
            )
        except CommandError as error:
            raise KubectlError(error, f"kubectl, {self.kubeconfig}") from error

    def get(
        self,
        kind: str,
        name: str | None = None,
        *,
        namespace: str | None = None,
        selector: str | None = None,
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """One object, or a list's {"items": [...]} without a name. Raises KubectlError; see `find`."""
        args = ["get", kind, *([name] if name else []), "-o", "json"]
        args += ["-n", namespace] if namespace else []
        args += ["-l", selector] if selector else []
        answer: dict[str, Any] = json.loads(self.run(args, timeout=timeout).stdout)
        return answer

    def find(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None when it does not exist."""
        args = ["get", kind, name, "-o", "json", "--show-managed-fields", "--ignore-not-found"]
        text = self.run([*args, *(["-n", namespace] if namespace else [])], timeout=30).stdout
        return json.loads(text) if text.strip() else None

    def apply(
        self,
        manifests: Sequence[Manifest],
        *,
        field_manager: str = "slipway",
        force: bool = False,
        applyset: str | None = None,
        namespace: str | None = None,
        timeout: float = 120.0,
    ) -> Completed:
        """Server-side apply, manifests through stdin.

        With `applyset` (kind/name, in `namespace`) objects that an earlier apply of the same set made
        and this one no longer has are removed. A field another manager owns is a conflict unless
        `force` takes it. Raises KubectlError; what was applied before the failing object stays.
        """
        args = ["apply", "--server-side", f"--field-manager={field_manager}", "-f", "-"]
        args += ["--force-conflicts"] if force else []
        args += ["-n", namespace] if namespace else []
        env = {}
        if applyset is not None:
            args += ["--prune", f"--applyset={applyset}"]
            env["KUBECTL_APPLYSET"] = "true"
        return self.run(args, input=as_list(manifests), timeout=timeout, env=env)

    @contextlib.contextmanager
    def port_forward(
        self, namespace: str, pod: str, port: int, timeout: float = 20.0
    ) -> Iterator[tuple[str, int]]:
        """A local (host, port) that leads to a pod's port as long as the block runs."""
        argv = self.argv(["port-forward", "-n", namespace, f"pod/{pod}", f":{port}", "--address=127.0.0.1"])
        pattern = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")
        try:
            with process.running(argv, ready=pattern.search, timeout=timeout, env=_environment()) as line:
                match = pattern.search(line)
                assert match is not None  # `ready` accepted the line
                yield "127.0.0.1", int(match[1])
        except CommandError as error:
            raise KubectlError(error, f"pod {namespace}/{pod}, port {port}") from error


def _environment() -> dict[str, str]:
    # discovery is cached beside our downloads, not in ~/.kube, and a kuberc there could carry aliases
    # and default flags of the user's own
    return {"KUBECACHEDIR": str(cache_home() / "kubectl"), "KUBECTL_KUBERC": "false"}


def _reason(output: str) -> Reason:
    for reason, pattern in _REASONS:
        if re.search(pattern, output):
            return reason
    return "other"


def as_list(manifests: Sequence[Manifest]) -> str:
    """Manifests as one JSON document for kubectl's stdin."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


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
    kinds = "deployments,services,replicasets,pods,endpointslices"
    items = kubectl.get(kinds, namespace=namespace)["items"]
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
        if item["metadata"].get("labels", {}).get("kubernetes.io/service-name") == meta["name"]
    ]
    behind = _endpoints(slices)
    pods = {str(item["metadata"]["name"]): item for item in _of(items, "Pod")}
    judged = [
        _judge(pod, behind.get(name), service, sets)
        for name, pod in sorted(pods.items())
        if not _is_over(pod)
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
    """A pod that serves as it must, one that does not, or None for one that need not.

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


def _is_over(pod: dict[str, Any]) -> bool:
    """Whether a pod has ended or is leaving: its ReplicaSet has replaced it and does not count it either."""
    return pod["status"].get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]


def why_not_ready(pod: dict[str, Any]) -> str:
    """Empty for a pod whose Ready condition is true, else container and reason as the kubelet gives it."""
    status = pod["status"]
    conditions = {item["type"]: item for item in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    for item in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = item.get("state", {}).get("waiting", {})
        if waiting.get("reason"):
            message = waiting.get("message", "")
            return f"container {item['name']}: {waiting['reason']}{': ' + message if message else ''}"
    for kind in ("PodScheduled", "Ready"):
        condition = conditions.get(kind, {})
        if condition.get("status") == "False":
            reason, message = condition.get("reason", ""), condition.get("message", "")
            return ": ".join(part for part in (reason, message) if part) or f"{kind} is False"
    return str(status.get("phase", "unknown"))


def _of(items: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in items if item["kind"] == kind]


def controller_of(item: dict[str, Any]) -> str:
    """UID of the object that controls this one, empty without one."""
    for reference in item["metadata"].get("ownerReferences", []):
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


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
