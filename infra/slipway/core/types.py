"""The values on the arrows between stages: frozen, serializable, no handle or client inside."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")
# What a machine may want of a person: a password for SSH or for sudo, the passphrase of its key
Asked = Literal["login", "become", "key"]
Status = Literal["changed", "unchanged", "failed", "not_run"]

# Groups of the inventory; an empty group means that layer is not wanted.
GROUPS = ("control_plane", "worker", "registry", "docker", "lxd", "model_server")


@dataclass(frozen=True)
class Host:
    """One machine, reached over SSH or, with connection "local", the one slipway runs on.

    address, user and port are where OpenSSH ends up; alias is what it is called with to get there, where that
    is not the address. host_key: the pinned public key, "ssh-ed25519 AAAA..."; empty where the user's own
    known_hosts decide. groups: the inventory groups it is in. identity: the file of its private key (0600);
    None for those that OpenSSH takes by itself, an agent's too. options: further words for OpenSSH, such as
    those of a jump. passwords: the inventory that has its passwords, which are in no value; None if it takes
    none from there. asks: what a person is asked for.
    """

    name: str
    address: str
    user: str
    host_key: str
    groups: tuple[str, ...]
    port: int = 22
    identity: Path | None = None
    alias: str = ""
    options: tuple[str, ...] = ()
    connection: Literal["ssh", "local"] = "ssh"
    passwords: Path | None = None
    asks: tuple[Asked, ...] = ()

    @property
    def destination(self) -> str:
        """What OpenSSH is called with."""
        return self.alias or self.address


@dataclass(frozen=True)
class Hosts:
    """The machines of this lab. inventory: the user's own that they are from, which Ansible reads too."""

    backend: str
    hosts: tuple[Host, ...]
    inventory: Path | None = None

    def group(self, name: str) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if name in host.groups)


@dataclass(frozen=True)
class Login:
    """A name and the file (0600) that its password is in; the password itself is never in a value."""

    username: str
    password_file: Path


@dataclass(frozen=True)
class Registry:
    """An image registry. address: host:port. The password is in password_file (0600), never here.

    pull: a login that can pull and no more, for nodes; None if they are to use the one that pushes.
    """

    address: str
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    pull: Login | None = None


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

    plays is empty for a cluster the user brought along; registry is None if the cluster has no registry of
    its own. context: the kubeconfig's context that leads to it, None for its current one.
    """

    kubeconfig: Path
    kubectl: Path
    api: str
    nodes: tuple[Node, ...]
    registry: Registry | None
    plays: dict[str, HostPlay] = field(default_factory=dict)
    context: str | None = None


@dataclass(frozen=True)
class ExportedModel:
    """A SavedModel. path: .../<name>/<version>. sha256 is over all its files, names included.

    accuracy is a share of 1 on held-out images; None for a model the user brought along.
    requests: JSONL of fixed requests and the export's own answers (slipway_client.requests), what
    every replica must reproduce. beside: other models that the same server serves; those have none.
    """

    path: Path
    name: str
    version: int
    sha256: str
    requests: Path
    accuracy: float | None = None
    data: str = ""
    beside: tuple[ExportedModel, ...] = ()

    @property
    def served(self) -> tuple[ExportedModel, ...]:
        """This model, then those that are served beside it."""
        return (self, *self.beside)


@dataclass(frozen=True)
class Servable:
    """A model as a server names it. sha256 is over all its files, names included."""

    name: str
    version: int
    sha256: str


@dataclass(frozen=True)
class ImageRef:
    """An image in a registry, named by digest ("sha256:..."). beside: what it serves beside its model."""

    repository: str
    digest: str
    tag: str
    server: Literal["portable", "tensorflow"]
    model_name: str
    model_version: int
    model_sha256: str
    beside: tuple[Servable, ...] = ()

    @property
    def servables(self) -> tuple[Servable, ...]:
        """Every model in the image."""
        return (Servable(self.model_name, self.model_version, self.model_sha256), *self.beside)

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
    """note: what the numbers cannot say, e.g. that no answers were recorded to compare with.

    verdict: what was found instead of a limit that is met, where more than its number is to be told; the gate
    may be ok all the same, when nobody asked that it be met.
    """

    name: str
    limit: float
    value: float
    ok: bool
    note: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Proof:
    """smoke.json. accuracy is a share of 1; wrong counts answers unlike the label.

    All but ok is of one model, named by model. beside: the proofs of those that the same server serves
    beside it, without the gates that are of pods; ok holds for all of them together.
    """

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
    model: str = ""
    beside: tuple[Proof, ...] = ()

    @property
    def each(self) -> tuple[Proof, ...]:
        """The proof of each model."""
        return (self, *self.beside)


@dataclass(frozen=True)
class Result:
    """How one stage went. evidence_seconds: how long collecting it took, after the stage had failed.

    model: of several the one it was run for; empty for a stage that is run once. started: when it began, in
    seconds after the run did. after: the labels of the stages whose values it waited for.
    """

    name: str
    status: Status
    reason: str
    seconds: float
    changed: int = 0
    evidence: tuple[str, ...] = ()
    evidence_seconds: float = 0.0
    model: str = ""
    started: float = 0.0
    after: tuple[str, ...] = ()

    @property
    def ended(self) -> float:
        """When it was over, in seconds after the run began."""
        return self.started + self.seconds

    @property
    def label(self) -> str:
        """The stage, and its model where there are several."""
        return label_of(self.name, self.model)


def label_of(stage: str, model: str) -> str:
    """What a stage is called where people read of it; model is empty where there is one only."""
    return f"{stage} {model}" if model else stage


@dataclass(frozen=True)
class Values:
    """What the stages handed on; None for a stage the run did not get to.

    models: where there are several, by name what was made for each; hosts and cluster are then only here.
    """

    hosts: Hosts | None = None
    cluster: Cluster | None = None
    model: ExportedModel | None = None
    image: ImageRef | None = None
    endpoints: Endpoints | None = None
    proof: Proof | None = None
    models: dict[str, Values] = field(default_factory=dict)

    @property
    def each(self) -> tuple[tuple[str, Values], ...]:
        """(name, what was made for it) of each of several models; else these values, without a name."""
        return tuple(self.models.items()) or (("", self),)

    def of(self, kind: type[T]) -> T | None:
        """The value of this type, None if no stage has made it."""
        found = (getattr(self, each.name) for each in fields(self))
        return next((value for value in found if isinstance(value, kind)), None)

    def having(self, value: object) -> Values:
        """These values and this one, which replaces an earlier one of its type; None changes nothing."""
        if value is None:
            return self
        changed: dict[str, Any] = {_FIELDS[type(value)]: value}
        return replace(self, **changed)


# The stage that makes each value
MADE_BY: dict[type, str] = {
    Hosts: "hosts",
    Cluster: "provision",
    ExportedModel: "model",
    ImageRef: "image",
    Endpoints: "deploy",
    Proof: "smoke",
}
# What there is once, however many models: the other values are each model's own
SHARED: tuple[type, ...] = (Hosts, Cluster)
_FIELDS: dict[type, str] = {
    Hosts: "hosts",
    Cluster: "cluster",
    ExportedModel: "model",
    ImageRef: "image",
    Endpoints: "endpoints",
    Proof: "proof",
}


@dataclass(frozen=True)
class Run:
    """All that happened: one Result per stage, and the values the stages made."""

    ok: bool
    results: tuple[Result, ...]
    values: Values
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
