"""The inputs of one model server, from the text of a stack's configuration or as values of a program.

The home of the deployment's defaults and of what each input accepts. Needs no engine.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from slipway_stacks import outputs

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


class InputsError(ValueError):
    """The inputs are wrong; problems lists every mistake in them."""

    def __init__(self, problems: tuple[str, ...], where: str = "stack configuration") -> None:
        super().__init__(f"{where}:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Kind:
    """What an input accepts: in words, as a test of a value, and how a text becomes one."""

    expected: str
    holds: Callable[[Any], bool]
    convert: Callable[[str], Any] = str

    def parse(self, text: str) -> Any:
        """The value that a text stands for. Raises ValueError saying what was expected."""
        try:
            return self.check(self.convert(text))
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None

    def check(self, value: Any) -> Any:
        """A value, if it is right. Raises ValueError saying what was expected."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # the engine knows one kind of number
        if not self.holds(value):
            raise ValueError(f"expected {self.expected}")
        return value


def _integer(low: int, high: int) -> Kind:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    def convert(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise ValueError
        return int(text)

    return Kind(f"a whole number from {low} to {high}", holds, convert)


def _matching(pattern: re.Pattern[str], expected: str) -> Kind:
    return Kind(expected, lambda value: _text(value, pattern))


def _text(value: Any, pattern: re.Pattern[str] | None = None) -> bool:
    return isinstance(value, str) and (pattern is None or pattern.fullmatch(value) is not None)


def _one_of(kind: Any) -> Kind:
    return Kind(f"one of {', '.join(get_args(kind))}", lambda value: value in get_args(kind))


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _mapping(expected: str, key: re.Pattern[str], value: re.Pattern[str] | None = None) -> Kind:
    def holds(given: Any) -> bool:
        return isinstance(given, Mapping) and all(
            _text(name, key) and _text(held, value) for name, held in given.items()
        )

    return Kind(expected, holds, json.loads)


def _list(expected: str, item: Callable[[Any], bool]) -> Kind:
    def holds(given: Any) -> bool:
        return isinstance(given, list | tuple) and all(item(each) for each in given)

    return Kind(expected, holds, json.loads)


def _object(*needed: str) -> Callable[[Any], bool]:
    """Whether a value is an object of the API's with these keys; the API server judges the rest."""
    return lambda value: isinstance(value, Mapping) and all(_text(value.get(key)) for key in needed)


_boolean = Kind("true or false", lambda value: isinstance(value, bool), _truth)
MODEL: Final = _matching(_MODEL, "letters, digits, _ . -, at most 63")
_name = _matching(_NAME, "a name of lower-case letters, digits and dashes, at most 63")
_host = _matching(_HOST, "a host name of lower-case letters, e.g. mnist.example.com or *.example.com")
_cpu = _matching(_CPU, "processors, e.g. 2, 0.5 or 250m")
_memory = _matching(_MEMORY, "bytes, e.g. 512Mi or 1Gi")
_node_port = _integer(30000, 32767)
_labels = _mapping("labels, a text each", _KEY, _LABEL)
_annotations = _mapping("annotations, a text each", _KEY)
_variables = _mapping("variables, a text each", _VARIABLE)
_resources = _mapping('amounts by name, e.g. {"nvidia.com/gpu": "1"}', _KEY, re.compile(r"\d+"))
_secret = _matching(_SECRET, "the name of a Secret: lower-case letters, digits, dashes and dots")
_names = _list("a list of names", lambda value: _text(value, _NAME))
_words = _list("a list of texts", _text)


def _about(key: str, kind: Kind, meaning: str, *, now: bool = False) -> dict[str, Any]:
    """What is known of an input beside its default. now: its value must be known before the program runs."""
    return {"key": key, "kind": kind, "meaning": meaning, "now": now}


@dataclass(frozen=True)
class Inputs:
    """What one model server is made from. In a stack's configuration a field is the key of its metadata."""

    image: Later[str] = field(
        default="",
        metadata=_about(
            "image",
            _matching(
                _IMAGE, "registry/repository@sha256:... (by digest, so that every replica runs the same)"
            ),
            "the serving image, by digest; the only input without a default",
        ),
    )
    model_name: str = field(
        default="mnist",
        metadata=_about(
            "modelName",
            MODEL,
            "servable name; the objects are named after it",
            now=True,
        ),
    )
    server: Server = field(
        default="portable",
        metadata=_about(
            "server",
            _one_of(Server),
            "what the image runs: slipway's portable server, or tensorflow, TensorFlow Serving's own",
            now=True,
        ),
    )
    namespace: Later[str] = field(
        default="serving", metadata=_about("namespace", _name, "namespace of everything the stack makes")
    )
    create_namespace: bool = field(
        default=True,
        metadata=_about(
            "createNamespace", _boolean, "make the namespace too; false where it exists already", now=True
        ),
    )
    replicas: Later[int] = field(
        default=3,
        metadata=_about("replicas", _integer(1, 1000), "model servers; with maxReplicas the least of them"),
    )
    max_replicas: Later[int] | None = field(
        default=None,
        metadata=_about("maxReplicas", _integer(2, 1000), "scale up to this many by processor use"),
    )
    target_cpu: Later[int] = field(
        default=70,
        metadata=_about("targetCpu", _integer(1, 100), "percent of cpuRequest at which a replica is added"),
    )
    scale_down_seconds: Later[int] = field(
        default=300,
        metadata=_about(
            "scaleDownSeconds",
            _integer(0, 3600),
            "how long fewer replicas must have been enough before one is taken away",
        ),
    )
    service_type: ServiceType = field(
        default="ClusterIP",
        metadata=_about("serviceType", _one_of(ServiceType), "type of the Service clients use", now=True),
    )
    grpc_node_port: Later[int] | None = field(
        default=None, metadata=_about("grpcNodePort", _node_port, "fixed port on each node for gRPC")
    )
    rest_node_port: Later[int] | None = field(
        default=None, metadata=_about("restNodePort", _node_port, "fixed port on each node for REST")
    )
    await_load_balancer: bool = field(
        default=False,
        metadata=_about(
            "awaitLoadBalancer",
            _boolean,
            "with serviceType LoadBalancer: wait for its address; true only where something hands them out",
            now=True,
        ),
    )
    gateway: Later[str] | None = field(
        default=None,
        metadata=_about(
            "gateway",
            _name,
            "an existing Gateway (Gateway API), by name, that an HTTPRoute and a GRPCRoute are attached to",
        ),
    )
    gateway_namespace: Later[str] | None = field(
        default=None,
        metadata=_about("gatewayNamespace", _name, "where that Gateway is, if it is not where the model is"),
    )
    rest_hostname: Later[str] | None = field(
        default=None, metadata=_about("restHostname", _host, "host name at the Gateway for REST")
    )
    grpc_hostname: Later[str] | None = field(
        default=None, metadata=_about("grpcHostname", _host, "host name at the Gateway for gRPC")
    )
    rest_listener: Later[str] | None = field(
        default=None, metadata=_about("restListener", _name, "the Gateway's listener for REST, by name")
    )
    grpc_listener: Later[str] | None = field(
        default=None, metadata=_about("grpcListener", _name, "the Gateway's listener for gRPC, by name")
    )
    await_ready: bool = field(
        default=True,
        metadata=_about(
            "await",
            _boolean,
            "`pulumi up` waits until the replicas are ready; false: return at once, the caller waits",
            now=True,
        ),
    )
    await_seconds: int = field(
        default=100,
        metadata=_about("awaitSeconds", _integer(10, 7200), "how long `pulumi up` waits for that", now=True),
    )
    pull_secrets: Later[list[str]] = field(
        default_factory=list,
        metadata=_about("pullSecrets", _names, "existing secrets with logins of registries, by name"),
    )
    tls_secret: Later[str] | None = field(
        default=None,
        metadata=_about(
            "tlsSecret", _secret, "an existing kubernetes.io/tls Secret: gRPC and REST speak TLS with it"
        ),
    )
    tls_clients: bool = field(
        default=False,
        metadata=_about(
            "tlsClients",
            _boolean,
            "clients must show a certificate signed by the Secret's ca.crt",
            now=True,
        ),
    )
    token_secret: Later[str] | None = field(
        default=None,
        metadata=_about(
            "tokenSecret",
            _secret,
            "an existing Secret: who sends none of the bearer tokens in its key `token` is not served",
        ),
    )
    cpu_request: Later[str] = field(
        default="100m", metadata=_about("cpuRequest", _cpu, "processor share each replica is sure of")
    )
    cpu_limit: Later[str] | None = field(
        default=None,
        metadata=_about(
            "cpuLimit", _cpu, "ceiling of processor use; unset, for throttling only adds latency"
        ),
    )
    memory_request: Later[str] = field(
        default="512Mi", metadata=_about("memoryRequest", _memory, "memory each replica is sure of")
    )
    memory_limit: Later[str] = field(
        default="1Gi", metadata=_about("memoryLimit", _memory, "memory at which a replica is ended")
    )
    devices: Later[dict[str, str]] = field(
        default_factory=dict,
        metadata=_about(
            "devices", _resources, "what else each replica takes of its node, e.g. processors for graphics"
        ),
    )
    spread: Spread = field(
        default="required",
        metadata=_about(
            "spread",
            _one_of(Spread),
            "replicas are spread evenly over nodes: required leaves a pod pending rather than uneven",
            now=True,
        ),
    )
    startup_seconds: Later[int] = field(
        default=120,
        metadata=_about("startupSeconds", _integer(5, 3600), "time a replica has to load its model"),
    )
    drain_seconds: Later[int] = field(
        default=30,
        metadata=_about(
            "drainSeconds", _integer(10, 600), "time a leaving replica has to finish its requests"
        ),
    )
    env: Later[dict[str, Any]] = field(
        default_factory=dict, metadata=_about("env", _variables, "variables of the server's environment")
    )
    extra_args: Later[list[str]] = field(
        default_factory=list,
        metadata=_about("extraArgs", _words, "flags of the server, after those of the image"),
    )
    labels: Later[dict[str, str]] = field(
        default_factory=dict, metadata=_about("labels", _labels, "more labels, for every object and pod")
    )
    annotations: Later[dict[str, str]] = field(
        default_factory=dict, metadata=_about("annotations", _annotations, "more annotations, for the pods")
    )
    pod_monitor: bool = field(
        default=False,
        metadata=_about(
            "podMonitor",
            _boolean,
            "a PodMonitor too, for a cluster with the Prometheus operator; annotations tell others anyway",
            now=True,
        ),
    )
    node_selector: Later[dict[str, str]] = field(
        default_factory=dict,
        metadata=_about("nodeSelector", _labels, "labels a node must have to take a replica"),
    )
    tolerations: Later[list[Any]] = field(
        default_factory=list,
        metadata=_about(
            "tolerations",
            _list("a list of tolerations as the API has them", _object()),
            "taints of nodes that do not keep replicas off",
        ),
    )
    affinity: Later[dict[str, Any]] = field(
        default_factory=dict,
        metadata=_about(
            "affinity",
            Kind("an affinity as the API has it", _object(), json.loads),
            "more about which nodes take a replica",
        ),
    )
    priority_class: Later[str] | None = field(
        default=None, metadata=_about("priorityClass", _name, "an existing priority class, by name")
    )
    volumes: Later[list[Any]] = field(
        default_factory=list,
        metadata=_about(
            "volumes",
            _list("a list of volumes as the API has them, each with a name", _object("name")),
            "volumes of the pods, e.g. a claim with models",
        ),
    )
    volume_mounts: Later[list[Any]] = field(
        default_factory=list,
        metadata=_about(
            "volumeMounts",
            _list(
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
    found = taken(values, problems)
    if "image" not in values:
        problems.append(missing_image("image"))
    inputs = Inputs(**found.given)
    keys = {item.name: item.metadata["key"] for item in fields(Inputs)}
    problems += contradictions(inputs, found.refused, keys)
    if problems:
        raise InputsError(tuple(problems))
    return inputs


@dataclass(frozen=True)
class Values:
    """Inputs by name: what was given and is right, and those for which something else was given."""

    given: dict[str, Any]
    refused: frozenset[str]


def taken(values: Mapping[str, Any], problems: list[str], before: str = "", of: type[Any] = Inputs) -> Values:
    """Inputs from values by key, texts or what JSON makes of them. What is wrong is added to the problems.

    before: what goes before a key where people read of it. of: the dataclass whose fields they are.
    """
    known = {item.metadata["key"]: item for item in fields(of)}
    given: dict[str, Any] = {}
    for key, value in values.items():
        item = known.get(key)
        if item is None:
            problems.append(f"{before}{unknown(key, known)}")
            continue
        kind: Kind = item.metadata["kind"]
        try:
            given[item.name] = kind.parse(value) if isinstance(value, str) else kind.check(value)
        except ValueError as error:
            problems.append(f"{before}{key}: {error}, not {value!r}")
    refused = {item.name for key, item in known.items() if key in values and item.name not in given}
    return Values(given, frozenset(refused))


def missing_image(key: str) -> str:
    """The problem of a model without an image. key: what `pulumi config set` is to be given."""
    return f"image: missing; `pulumi config set {key} REGISTRY/REPOSITORY@sha256:...`"


def unknown(name: str, known: Collection[str]) -> str:
    """The problem of a name that no input has."""
    near = difflib.get_close_matches(name, known, 1)
    return f"{name}: unknown key" + (f"; did you mean {near[0]}?" if near else "")


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
