"""The inputs of one model server, from the text of a stack's configuration or as values of a program.

The home of the deployment's defaults and of what each input accepts. Needs no engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from slipway_stacks import kinds, outputs
from slipway_stacks.kinds import InputsError, Kind, about

if TYPE_CHECKING:
    # In a program a value may come out of another resource, and then it is known only while the engine runs.
    from pulumi import Input as Later

ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer"]
Spread = Literal["required", "preferred"]
Server = Literal["portable", "tensorflow"]

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MODEL: Final = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.-]{1,63}")
_IMAGE: Final = re.compile(
    r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[\w.-]{1,128})?@sha256:[0-9a-f]{64}"
)
_CPU: Final = re.compile(r"\d+m|\d+(\.\d{1,3})?")
_MEMORY: Final = re.compile(r"(\d+)(Ki|Mi|Gi|k|M|G)?")
_BYTES: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_VARIABLE: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
# of a label or an annotation, with the domain it may have before it
_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?"
)
_SECRET: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL: Final = re.compile(r"([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
# as the Gateway API has it: a domain, or all below one
_HOST: Final = re.compile(
    r"(?=.{1,253}$)(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)


def _object(*needed: str) -> Callable[[Any], bool]:
    """Whether a value is an object of the API's with these keys; the API server judges the rest."""
    return lambda value: isinstance(value, Mapping) and all(kinds.is_text(value.get(key)) for key in needed)


MODEL: Final = kinds.matching(_MODEL, "letters, digits, _ . -, at most 63")
_name = kinds.matching(_NAME, "a name of lower-case letters, digits and dashes, at most 63")
_host = kinds.matching(_HOST, "a host name of lower-case letters, e.g. mnist.example.com or *.example.com")
_cpu = kinds.matching(_CPU, "processors, e.g. 2, 0.5 or 250m")
_memory = kinds.matching(_MEMORY, "bytes, e.g. 512Mi or 1Gi")
_node_port = kinds.integer(30000, 32767)
_labels = kinds.mapping("labels, a text each", _KEY, _LABEL)
_annotations = kinds.mapping("annotations, a text each", _KEY)
_variables = kinds.mapping("variables, a text each", _VARIABLE)
_resources = kinds.mapping('amounts by name, e.g. {"nvidia.com/gpu": "1"}', _KEY, re.compile(r"\d+"))
_secret = kinds.matching(_SECRET, "the name of a Secret: lower-case letters, digits, dashes and dots")
_names = kinds.list_of("a list of names", lambda value: kinds.is_text(value, _NAME))
_words = kinds.list_of("a list of texts", kinds.is_text)


@dataclass(frozen=True)
class Inputs:
    """What one model server is made from. In a stack's configuration a field is the key of its metadata."""

    image: Later[str] = field(
        default="",
        metadata=about(
            "image",
            kinds.matching(
                _IMAGE, "registry/repository@sha256:... (by digest, so that every replica runs the same)"
            ),
            "the serving image, by digest; the only input without a default",
        ),
    )
    model_name: str = field(
        default="mnist",
        metadata=about(
            "modelName",
            MODEL,
            "servable name; the objects are named after it",
            now=True,
        ),
    )
    server: Server = field(
        default="portable",
        metadata=about(
            "server",
            kinds.one_of(Server),
            "what the image runs: slipway's portable server, or tensorflow, TensorFlow Serving's own",
            now=True,
        ),
    )
    namespace: Later[str] = field(
        default="serving", metadata=about("namespace", _name, "namespace of everything the stack makes")
    )
    create_namespace: bool = field(
        default=True,
        metadata=about(
            "createNamespace",
            kinds.boolean,
            "make the namespace too; false where it exists already",
            now=True,
        ),
    )
    replicas: Later[int] = field(
        default=3,
        metadata=about(
            "replicas", kinds.integer(1, 10_000), "model servers; with maxReplicas the least of them"
        ),
    )
    max_replicas: Later[int] | None = field(
        default=None,
        metadata=about("maxReplicas", kinds.integer(2, 10_000), "scale up to this many by processor use"),
    )
    target_cpu: Later[int] = field(
        default=70,
        metadata=about(
            "targetCpu", kinds.integer(1, 100), "percent of cpuRequest at which a replica is added"
        ),
    )
    scale_down_seconds: Later[int] = field(
        default=300,
        metadata=about(
            "scaleDownSeconds",
            kinds.integer(0, 3600),
            "how long fewer replicas must have been enough before one is taken away",
        ),
    )
    service_type: ServiceType = field(
        default="ClusterIP",
        metadata=about("serviceType", kinds.one_of(ServiceType), "type of the Service clients use", now=True),
    )
    grpc_node_port: Later[int] | None = field(
        default=None, metadata=about("grpcNodePort", _node_port, "fixed port on each node for gRPC")
    )
    rest_node_port: Later[int] | None = field(
        default=None, metadata=about("restNodePort", _node_port, "fixed port on each node for REST")
    )
    await_load_balancer: bool = field(
        default=False,
        metadata=about(
            "awaitLoadBalancer",
            kinds.boolean,
            "with serviceType LoadBalancer: wait for its address; true only where something hands them out",
            now=True,
        ),
    )
    gateway: Later[str] | None = field(
        default=None,
        metadata=about(
            "gateway",
            _name,
            "an existing Gateway (Gateway API), by name, that an HTTPRoute and a GRPCRoute are attached to",
        ),
    )
    gateway_namespace: Later[str] | None = field(
        default=None,
        metadata=about("gatewayNamespace", _name, "where that Gateway is, if it is not where the model is"),
    )
    rest_hostname: Later[str] | None = field(
        default=None, metadata=about("restHostname", _host, "host name at the Gateway for REST")
    )
    grpc_hostname: Later[str] | None = field(
        default=None, metadata=about("grpcHostname", _host, "host name at the Gateway for gRPC")
    )
    rest_listener: Later[str] | None = field(
        default=None, metadata=about("restListener", _name, "the Gateway's listener for REST, by name")
    )
    grpc_listener: Later[str] | None = field(
        default=None, metadata=about("grpcListener", _name, "the Gateway's listener for gRPC, by name")
    )
    await_ready: bool = field(
        default=True,
        metadata=about(
            "await",
            kinds.boolean,
            "`pulumi up` waits until the replicas are ready; false: return at once, the caller waits",
            now=True,
        ),
    )
    await_seconds: int = field(
        default=100,
        metadata=about(
            "awaitSeconds", kinds.integer(10, 7200), "how long `pulumi up` waits for that", now=True
        ),
    )
    pull_secrets: Later[list[str]] = field(
        default_factory=list,
        metadata=about("pullSecrets", _names, "existing secrets with logins of registries, by name"),
    )
    tls_secret: Later[str] | None = field(
        default=None,
        metadata=about(
            "tlsSecret", _secret, "an existing kubernetes.io/tls Secret: gRPC and REST speak TLS with it"
        ),
    )
    tls_clients: bool = field(
        default=False,
        metadata=about(
            "tlsClients",
            kinds.boolean,
            "clients must show a certificate signed by the Secret's ca.crt",
            now=True,
        ),
    )
    token_secret: Later[str] | None = field(
        default=None,
        metadata=about(
            "tokenSecret",
            _secret,
            "an existing Secret: who sends none of the bearer tokens in its key `token` is not served",
        ),
    )
    cpu_request: Later[str] = field(
        default="100m", metadata=about("cpuRequest", _cpu, "processor share each replica is sure of")
    )
    cpu_limit: Later[str] | None = field(
        default=None,
        metadata=about("cpuLimit", _cpu, "ceiling of processor use; unset, for throttling only adds latency"),
    )
    memory_request: Later[str] = field(
        default="512Mi", metadata=about("memoryRequest", _memory, "memory each replica is sure of")
    )
    memory_limit: Later[str] = field(
        default="1Gi", metadata=about("memoryLimit", _memory, "memory at which a replica is ended")
    )
    devices: Later[dict[str, str]] = field(
        default_factory=dict,
        metadata=about(
            "devices", _resources, "what else each replica takes of its node, e.g. processors for graphics"
        ),
    )
    spread: Spread = field(
        default="required",
        metadata=about(
            "spread",
            kinds.one_of(Spread),
            "replicas are spread evenly over nodes: required leaves a pod pending rather than uneven",
            now=True,
        ),
    )
    startup_seconds: Later[int] = field(
        default=120,
        metadata=about("startupSeconds", kinds.integer(5, 3600), "time a replica has to load its model"),
    )
    drain_seconds: Later[int] = field(
        default=30,
        metadata=about(
            "drainSeconds", kinds.integer(10, 600), "time a leaving replica has to finish its requests"
        ),
    )
    env: Later[dict[str, Any]] = field(
        default_factory=dict, metadata=about("env", _variables, "variables of the server's environment")
    )
    extra_args: Later[list[str]] = field(
        default_factory=list,
        metadata=about("extraArgs", _words, "flags of the server, after those of the image"),
    )
    labels: Later[dict[str, str]] = field(
        default_factory=dict, metadata=about("labels", _labels, "more labels, for every object and pod")
    )
    annotations: Later[dict[str, str]] = field(
        default_factory=dict, metadata=about("annotations", _annotations, "more annotations, for the pods")
    )
    pod_monitor: bool = field(
        default=False,
        metadata=about(
            "podMonitor",
            kinds.boolean,
            "a PodMonitor too, for a cluster with the Prometheus operator; annotations tell others anyway",
            now=True,
        ),
    )
    node_selector: Later[dict[str, str]] = field(
        default_factory=dict,
        metadata=about("nodeSelector", _labels, "labels a node must have to take a replica"),
    )
    tolerations: Later[list[Any]] = field(
        default_factory=list,
        metadata=about(
            "tolerations",
            kinds.list_of("a list of tolerations as the API has them", _object()),
            "taints of nodes that do not keep replicas off",
        ),
    )
    affinity: Later[dict[str, Any]] = field(
        default_factory=dict,
        metadata=about(
            "affinity",
            Kind("an affinity as the API has it", _object(), json.loads),
            "more about which nodes take a replica",
        ),
    )
    priority_class: Later[str] | None = field(
        default=None, metadata=about("priorityClass", _name, "an existing priority class, by name")
    )
    volumes: Later[list[Any]] = field(
        default_factory=list,
        metadata=about(
            "volumes",
            kinds.list_of("a list of volumes as the API has them, each with a name", _object("name")),
            "volumes of the pods, e.g. a claim with models",
        ),
    )
    volume_mounts: Later[list[Any]] = field(
        default_factory=list,
        metadata=about(
            "volumeMounts",
            kinds.list_of(
                "a list of mounts as the API has them, each with name and mountPath",
                _object("name", "mountPath"),
            ),
            "where the server sees them",
        ),
    )

    @property
    def names(self) -> outputs.Names:
        """What the objects are called."""
        return outputs.Names(self.model_name)


def read(values: Mapping[str, str]) -> Inputs:
    """Inputs from configuration values by key, without the `slipway:` before it.

    Raises InputsError with every problem at once: unknown keys, wrong values, a missing image,
    combinations that cannot work.
    """
    problems: list[str] = []
    found = kinds.taken(values, problems, of=Inputs)
    if "image" not in values:
        problems.append(missing_image("image"))
    inputs = Inputs(**found.given)
    keys = {item.name: item.metadata["key"] for item in fields(Inputs)}
    problems += contradictions(inputs, found.refused, keys)
    if problems:
        raise InputsError(tuple(problems))
    return inputs


def missing_image(key: str) -> str:
    """The problem of a model without an image. key: what `pulumi config set` is to be given."""
    return f"image: missing; `pulumi config set {key} REGISTRY/REPOSITORY@sha256:...`"


def contradictions(inputs: Inputs, refused: Collection[str], said: Mapping[str, str]) -> list[str]:
    """Combinations that cannot work. What was refused, or is not known yet, takes part in none.

    said: what an input is called where its value came from, by its name here.
    """

    def known(*names: str) -> bool:
        return all(name not in refused and isinstance(getattr(inputs, name), int | str) for name in names)

    out: list[str] = []
    if known("max_replicas", "replicas") and inputs.max_replicas <= inputs.replicas:  # type: ignore[operator]  # known
        least = f"{said['replicas']}, {inputs.replicas}"
        out.append(f"{said['max_replicas']}: {inputs.max_replicas} is not more than {least}")
    if inputs.service_type == "ClusterIP" and known("service_type"):
        out += [
            f"{said[name]}: only with {said['service_type']} NodePort or LoadBalancer"
            for name in ("grpc_node_port", "rest_node_port")
            if getattr(inputs, name) is not None and name not in refused
        ]
    elif known("grpc_node_port", "rest_node_port") and inputs.grpc_node_port == inputs.rest_node_port:
        out.append(f"{said['rest_node_port']}: {inputs.rest_node_port} is {said['grpc_node_port']} already")
    if inputs.await_load_balancer and known("service_type") and inputs.service_type != "LoadBalancer":
        out.append(f"{said['await_load_balancer']}: only with {said['service_type']} LoadBalancer")
    out += _access(inputs, refused, said)
    out += _routes(inputs, refused, said)
    for request, limit, size in (
        ("memory_request", "memory_limit", _bytes),
        ("cpu_request", "cpu_limit", _cores),
    ):
        if known(request, limit) and size(getattr(inputs, request)) > size(getattr(inputs, limit)):
            ceiling = f"{said[limit]}, {getattr(inputs, limit)}"
            out.append(f"{said[request]}: {getattr(inputs, request)} is more than {ceiling}")
    if isinstance(inputs.labels, Mapping) and "labels" not in refused:
        out += [
            f"{said['labels']}: {label} is the component's own"
            for label in inputs.labels
            if label in inputs.names.labels
        ]
    return out


def _access(inputs: Inputs, refused: Collection[str], said: Mapping[str, str]) -> list[str]:
    """TensorFlow Serving's own server has no tokens, and wants keys inside of its file, not beside it."""
    given = [name for name in ("tls_secret", "token_secret") if getattr(inputs, name) is not None]
    out = [
        f"{said[name]}: only with {said['server']} portable"
        for name in given
        if inputs.server != "portable" and "server" not in refused
    ]
    if inputs.tls_clients and inputs.tls_secret is None and "tls_secret" not in refused:
        out.append(f"{said['tls_clients']}: only with {said['tls_secret']}")
    if "tls_secret" in given and inputs.gateway is not None:
        out.append(f"{said['tls_secret']}: not with {said['gateway']}, which speaks to pods without TLS")
    return out


_OF_ROUTES: Final = ("gateway_namespace", "rest_hostname", "grpc_hostname", "rest_listener", "grpc_listener")


def _routes(inputs: Inputs, refused: Collection[str], said: Mapping[str, str]) -> list[str]:
    """A listener takes routes of both kinds only for different hosts: of two for one it drops the later."""
    if inputs.gateway is None:
        return [
            f"{said[name]}: only with {said['gateway']}"
            for name in _OF_ROUTES
            if getattr(inputs, name) is not None and name not in refused and "gateway" not in refused
        ]
    values = {name: getattr(inputs, name) for name in _OF_ROUTES[1:]}
    if any(name in refused or not isinstance(value, str | None) for name, value in values.items()):
        return []  # not known yet
    rest, grpc, *listeners = values.values()
    if apart(rest, grpc) or (None not in listeners and listeners[0] != listeners[1]):
        return []
    hosts, sections = (
        f"{said[f'rest_{what}']} and {said[f'grpc_{what}']}" for what in ("hostname", "listener")
    )
    return [f"{said['gateway']}: a listener takes REST or gRPC for one host; set {hosts}, or {sections}"]


def apart(one: str | None, other: str | None) -> bool:
    """Whether no host is meant by both names; None means every host."""
    if one is None or other is None:
        return False
    wide = [name.removeprefix("*") for name in (one, other) if name.startswith("*.")]
    return one != other and not any(one.endswith(part) and other.endswith(part) for part in wide)


def _bytes(text: str) -> int:
    match = _MEMORY.fullmatch(text)
    assert match is not None  # parsed before
    return int(match[1]) * _BYTES[match[2] or ""]


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
