"""The values on the arrows between stages: frozen, serializable, no handle or client inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")
Status = Literal["changed", "unchanged", "failed", "not_run"]

# Groups of the inventory; an empty group means that layer is not wanted.
GROUPS = ("control_plane", "worker", "registry", "docker", "lxd", "model_server")


@dataclass(frozen=True)
class Request:
    """What the user asked with. config: slipway.yaml when there is one. flags: KEY=VALUE of --set."""

    config: Path | None
    environment: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """One machine reachable over SSH.

    host_key: the pinned public key, "ssh-ed25519 AAAA...". groups: the inventory groups it is in.
    facts: what the backend knows that decides how it is provisioned, e.g. cgroup "v1" or "v2",
    sys_resource "yes" or "no", mtu "1400".
    """

    name: str
    address: str
    user: str
    host_key: str
    groups: tuple[str, ...]
    port: int = 22
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hosts:
    """The machines of this lab. identity: path of the private SSH key (0600), None for an agent's."""

    backend: str
    hosts: tuple[Host, ...]
    identity: Path | None = None

    def group(self, name: str) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if name in host.groups)


@dataclass(frozen=True)
class Registry:
    """An image registry. address: host:port. The password is in password_file (0600), never here."""

    address: str
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    role: Literal["control_plane", "worker"]
    version: str


@dataclass(frozen=True)
class HostPlay:
    """What the play did to one host; seconds per role."""

    ok: int
    changed: int
    failed: int
    skipped: int
    roles: dict[str, float] = field(default_factory=dict)
    changed_tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes cluster that answers. kubectl: the client binary that goes with it.

    plays is empty for a cluster the user brought along; registry is None when there is none.
    """

    kubeconfig: Path
    kubectl: Path
    api: str
    nodes: tuple[Node, ...]
    registry: Registry | None
    plays: dict[str, HostPlay] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportedModel:
    """A SavedModel. path: .../<name>/<version>. sha256 is over all its files, names included.

    accuracy is a share of 1 on held-out images; None for a model the user brought along.
    requests: JSONL of fixed requests and the export's own answers (infra.predict.requests), what
    every replica must reproduce.
    """

    path: Path
    name: str
    version: int
    sha256: str
    requests: Path
    accuracy: float | None = None
    data: str = ""


@dataclass(frozen=True)
class ImageRef:
    """An image in a registry, named by digest ("sha256:...")."""

    repository: str
    digest: str
    tag: str
    server: Literal["portable", "tensorflow"]
    model_name: str
    model_version: int
    model_sha256: str

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.digest}"


@dataclass(frozen=True)
class Replica:
    """One ready pod behind the service."""

    pod: str
    node: str
    address: str
    grpc_port: int
    rest_port: int


@dataclass(frozen=True)
class Endpoints:
    """Where the deployment answers."""

    namespace: str
    deployment: str
    service: str
    service_address: str
    grpc_port: int
    rest_port: int
    replicas: tuple[Replica, ...]
    applied_by: Literal["engine", "render"]


@dataclass(frozen=True)
class LatencyMs:
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class ReplicaProof:
    """What one replica answered. differences: answers unlike the export's recorded ones."""

    endpoint: str
    pod: str
    node: str
    requests: int
    errors: int
    wrong: int
    differences: int
    model_version: int | None
    error: str = ""


@dataclass(frozen=True)
class Gate:
    """note: what the numbers cannot say, e.g. that no answers were recorded to compare with."""

    name: str
    limit: float
    value: float
    ok: bool
    note: str = ""


@dataclass(frozen=True)
class Proof:
    """smoke.json. accuracy is a share of 1; wrong counts answers unlike the label."""

    ok: bool
    server: str
    transport: str
    requests: int
    errors: int
    wrong: int
    differences: int
    accuracy: float | None
    latency_ms: LatencyMs | None
    throughput_rps: float | None
    replicas: tuple[ReplicaProof, ...]
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class Result:
    """How one stage went."""

    name: str
    status: Status
    reason: str
    seconds: float
    changed: int = 0
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """All that happened: one Result per stage, and the values the stages made, by stage name."""

    ok: bool
    results: tuple[Result, ...]
    values: dict[str, object]
    versions: dict[str, str]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a stage returns: its value, how many things it changed (0: no-op), one line for people."""

    value: T
    changed: int
    summary: str


def dump(value: object) -> bytes:
    """A value of this module as JSON."""
    return TypeAdapter(type(value)).dump_json(value, indent=2)


def load(kind: type[T], data: bytes) -> T:
    """The value back from its JSON. Raises pydantic.ValidationError when it is not one."""
    return TypeAdapter(kind).validate_json(data)
