"""What a program hands to a ModelServer: `ModelServerArgs`, and how they become inputs.

Annotations stand as they are here and not as text: Pulumi reads them to describe the component to programs in
other languages.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict

import pulumi

from slipway_stacks.inputs import Inputs, contradictions
from slipway_stacks.kinds import InputsError, Kind, unknown


class ModelServerArgs(TypedDict, total=False):
    """What one model server is made from; the meanings and defaults are those of `inputs.Inputs`.

    Where a type says Input, another resource's output may stand. The rest decides which objects there are
    and what they are called.
    """

    # needed; not marked so, for Pulumi's analyzer takes a key to be needed where None may not stand
    image: pulumi.Input[str]
    """The serving image by digest."""
    model_name: str | None
    """Servable name; the objects are named after it."""
    server: str | None
    """What the image runs: portable, or tensorflow, TensorFlow Serving's own."""
    namespace: pulumi.Input[str] | None
    """Namespace of everything the component makes."""
    create_namespace: bool | None
    """Make the namespace too; False where it exists already."""
    replicas: pulumi.Input[int] | None
    """Model servers; with max_replicas the least of them."""
    max_replicas: pulumi.Input[int] | None
    """Scale up to this many by processor use."""
    target_cpu: pulumi.Input[int] | None
    """Percent of cpu_request at which a replica is added."""
    scale_down_seconds: pulumi.Input[int] | None
    """How long fewer replicas must have been enough before one is taken away."""
    service_type: str | None
    """Type of the Service clients use: ClusterIP, NodePort or LoadBalancer."""
    grpc_node_port: pulumi.Input[int] | None
    """Fixed port on each node for gRPC."""
    rest_node_port: pulumi.Input[int] | None
    """Fixed port on each node for REST."""
    await_load_balancer: bool | None
    """With a LoadBalancer: wait for its address."""
    gateway: pulumi.Input[str] | None
    """An existing Gateway of the Gateway API, by name: routes for REST and gRPC are attached to it."""
    gateway_namespace: pulumi.Input[str] | None
    """Where that Gateway is, if it is not where the model is."""
    rest_hostname: pulumi.Input[str] | None
    """Host name at the Gateway for REST."""
    grpc_hostname: pulumi.Input[str] | None
    """Host name at the Gateway for gRPC."""
    rest_listener: pulumi.Input[str] | None
    """The Gateway's listener for REST, by name."""
    grpc_listener: pulumi.Input[str] | None
    """The Gateway's listener for gRPC, by name."""
    await_ready: bool | None
    """Wait until the replicas are ready."""
    await_seconds: int | None
    """How long to wait for that."""
    pull_secrets: pulumi.Input[list[pulumi.Input[str]]] | None
    """Existing secrets with logins of registries, by name."""
    tls_secret: pulumi.Input[str] | None
    """An existing kubernetes.io/tls Secret: gRPC and REST speak TLS with it."""
    tls_clients: bool | None
    """Clients must show a certificate signed by the Secret's ca.crt."""
    token_secret: pulumi.Input[str] | None
    """An existing Secret: who sends none of the bearer tokens in its key `token` is not served."""
    cpu_request: pulumi.Input[str] | None
    """Processor share each replica is sure of."""
    cpu_limit: pulumi.Input[str] | None
    """Ceiling of processor use."""
    memory_request: pulumi.Input[str] | None
    """Memory each replica is sure of."""
    memory_limit: pulumi.Input[str] | None
    """Memory at which a replica is ended."""
    devices: pulumi.Input[dict[str, pulumi.Input[str]]] | None
    """What else each replica takes of its node, such as {"nvidia.com/gpu": "1"}."""
    spread: str | None
    """Replicas are spread evenly over nodes: required or preferred."""
    startup_seconds: pulumi.Input[int] | None
    """Time a replica has to load its model."""
    drain_seconds: pulumi.Input[int] | None
    """Time a leaving replica has to finish its requests."""
    env: pulumi.Input[dict[str, pulumi.Input[str]]] | None
    """Variables of the server's environment."""
    extra_args: pulumi.Input[list[pulumi.Input[str]]] | None
    """Flags of the server, after those of the image."""
    labels: pulumi.Input[dict[str, pulumi.Input[str]]] | None
    """More labels, for every object and pod."""
    annotations: pulumi.Input[dict[str, pulumi.Input[str]]] | None
    """More annotations, for the pods."""
    pod_monitor: bool | None
    """A PodMonitor too, where the cluster has the Prometheus operator's API."""
    node_selector: pulumi.Input[dict[str, pulumi.Input[str]]] | None
    """Labels a node must have to take a replica."""
    tolerations: pulumi.Input[list[Any]] | None
    """Taints of nodes that do not keep replicas off, as the API has them."""
    affinity: pulumi.Input[dict[str, Any]] | None
    """More about which nodes take a replica, as the API has it."""
    priority_class: pulumi.Input[str] | None
    """An existing priority class, by name."""
    volumes: pulumi.Input[list[Any]] | None
    """Volumes of the pods, as the API has them."""
    volume_mounts: pulumi.Input[list[Any]] | None
    """Where the server sees them, as the API has them."""


def settle(args: Mapping[str, Any]) -> Inputs:
    """The inputs these arguments stand for. An Output in them is checked when its value is there.

    Raises InputsError with every problem at once, before any resource is made.
    """
    known = {item.name: item for item in fields(Inputs)}
    problems: list[str] = []
    given: dict[str, Any] = {}
    refused: set[str] = set()
    for name, value in args.items():
        if value is None:
            continue
        item = known.get(name)
        if item is None:
            problems.append(unknown(name, known))
            continue
        kind: Kind = item.metadata["kind"]
        try:
            if not is_later(value):
                given[name] = kind.check(value)
            elif item.metadata["now"]:
                raise ValueError("must be known before the program runs; it is an Output")
            else:
                given[name] = pulumi.Output.from_input(value).apply(_checking(name, kind))
        except ValueError as error:
            refused.add(name)
            problems.append(f"{name}: {error}" + ("" if is_later(value) else f", not {value!r}"))
    if args.get("image") is None:
        problems.append("image: missing; a serving image by digest")
    inputs = Inputs(**given)
    problems += contradictions(inputs, refused, {name: name for name in known})
    if problems:
        raise InputsError(tuple(problems), "arguments of the ModelServer")
    return inputs


def lifted(value: Any, change: Callable[[Any], Any]) -> Any:
    """change(value), or the Output of it where the value, or a part of it, is known only later."""
    return pulumi.Output.from_input(value).apply(change) if is_later(value) else change(value)


def _checking(name: str, kind: Kind) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        try:
            return kind.check(value)
        except ValueError as error:
            raise pulumi.RunError(
                f"arguments of the ModelServer:\n  {name}: {error}, not {value!r}"
            ) from error

    return check


def is_later(value: Any) -> bool:
    """Whether a value, or a part of it, comes out of something else while the engine runs."""
    if isinstance(value, Mapping):
        return any(is_later(part) for part in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(is_later(part) for part in value)
    return isinstance(value, pulumi.Output) or asyncio.isfuture(value) or asyncio.iscoroutine(value)
