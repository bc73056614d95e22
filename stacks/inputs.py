"""Stack configuration -> typed inputs. The home of the deployment's defaults.

Reads plain text values, as the engine hands them to a program, and needs no engine to do it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer"]
Spread = Literal["required", "preferred"]

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MODEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_IMAGE: Final = re.compile(
    r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[\w.-]{1,128})?@sha256:[0-9a-f]{64}"
)
_CPU: Final = re.compile(r"\d+m|\d+(\.\d{1,3})?")
_MEMORY: Final = re.compile(r"(\d+)(Ki|Mi|Gi|k|M|G)?")
_BYTES: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class InputsError(ValueError):
    """The configuration of the stack is wrong; problems lists every mistake in it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("stack configuration:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = problems


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(text)

    return parse


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return parse


def _one_of(kind: Any) -> Callable[[str], Any]:
    def parse(text: str) -> str:
        if text not in get_args(kind):
            raise ValueError(f"expected one of {', '.join(get_args(kind))}")
        return text

    return parse


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


_name = _matching(_NAME, "a name of lower-case letters, digits and dashes, at most 63")
_cpu = _matching(_CPU, "processors, e.g. 2, 0.5 or 250m")
_memory = _matching(_MEMORY, "bytes, e.g. 512Mi or 1Gi")
_node_port = _integer(30000, 32767)


def _input(default: Any, key: str, parse: Callable[[str], Any], meaning: str) -> Any:
    return field(default=default, metadata={"key": key, "parse": parse, "meaning": meaning})


@dataclass(frozen=True)
class Inputs:
    """What one stack deploys. Each field is the configuration key of its metadata, `slipway:KEY`."""

    image: str = _input(
        "",
        "image",
        _matching(_IMAGE, "registry/repository@sha256:... (by digest, so that every replica runs the same)"),
        "the serving image, by digest; the only input without a default",
    )
    model_name: str = _input(
        "mnist", "modelName", _matching(_MODEL, "letters, digits, _ . -, at most 63"), "servable name"
    )
    namespace: str = _input("serving", "namespace", _name, "namespace of everything the stack makes")
    create_namespace: bool = _input(
        True, "createNamespace", _truth, "make the namespace too; false where it exists already"
    )
    replicas: int = _input(
        3, "replicas", _integer(1, 1000), "model servers; with maxReplicas the least of them"
    )
    max_replicas: int | None = _input(
        None, "maxReplicas", _integer(2, 1000), "scale up to this many by processor use"
    )
    target_cpu: int = _input(
        70, "targetCpu", _integer(1, 100), "percent of cpuRequest at which a replica is added"
    )
    service_type: ServiceType = _input(  # noqa: RUF009  # makes a dataclasses.field, not a value
        "ClusterIP", "serviceType", _one_of(ServiceType), "type of mnist-service"
    )
    grpc_node_port: int | None = _input(None, "grpcNodePort", _node_port, "fixed port on each node for gRPC")
    rest_node_port: int | None = _input(None, "restNodePort", _node_port, "fixed port on each node for REST")
    await_load_balancer: bool = _input(
        False,
        "awaitLoadBalancer",
        _truth,
        "with serviceType LoadBalancer: wait for its address; true only where something hands them out",
    )
    await_ready: bool = _input(
        True, "await", _truth, "`pulumi up` waits until the replicas are ready; false: whoever ran it does"
    )
    pull_secret: str | None = _input(
        None, "pullSecret", _name, "an existing secret with the registry's login, by name"
    )
    cpu_request: str = _input("100m", "cpuRequest", _cpu, "processor share each replica is sure of")
    cpu_limit: str | None = _input(
        None, "cpuLimit", _cpu, "ceiling of processor use; unset, for throttling only adds latency"
    )
    memory_request: str = _input("512Mi", "memoryRequest", _memory, "memory each replica is sure of")
    memory_limit: str = _input("1Gi", "memoryLimit", _memory, "memory at which a replica is ended")
    spread: Spread = _input(  # noqa: RUF009  # makes a dataclasses.field, not a value
        "required",
        "spread",
        _one_of(Spread),
        "replicas are spread evenly over nodes: required leaves a pod pending rather than uneven",
    )
    startup_seconds: int = _input(
        120, "startupSeconds", _integer(5, 3600), "time a replica has to load its model"
    )
    drain_seconds: int = _input(
        30, "drainSeconds", _integer(10, 600), "time a leaving replica has to finish its requests"
    )


def read(values: Mapping[str, str]) -> Inputs:
    """Inputs from configuration values by key, without the `slipway:` before it.

    Raises InputsError with every problem at once: unknown keys, wrong values, a missing image,
    combinations that cannot work.
    """
    known = {item.metadata["key"]: item for item in fields(Inputs)}
    problems: list[str] = []
    given: dict[str, Any] = {}
    for key, text in values.items():
        item = known.get(key)
        if item is None:
            near = difflib.get_close_matches(key, known, 1)
            problems.append(f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
            continue
        try:
            given[item.name] = item.metadata["parse"](text)
        except ValueError as error:
            problems.append(f"{key}: {error}, not {text!r}")
    if "image" not in values:
        problems.append("image: missing; `pulumi config set image REGISTRY/REPOSITORY@sha256:...`")
    inputs = Inputs(**given)
    problems += _contradictions(inputs)
    if problems:
        raise InputsError(tuple(problems))
    return inputs


def _contradictions(inputs: Inputs) -> list[str]:
    out: list[str] = []
    if inputs.max_replicas is not None and inputs.max_replicas <= inputs.replicas:
        out.append(f"maxReplicas: {inputs.max_replicas} is not more than replicas, {inputs.replicas}")
    if inputs.service_type == "ClusterIP":
        out += [
            f"{key}: only with serviceType NodePort or LoadBalancer"
            for key, port in (
                ("grpcNodePort", inputs.grpc_node_port),
                ("restNodePort", inputs.rest_node_port),
            )
            if port is not None
        ]
    elif inputs.grpc_node_port is not None and inputs.grpc_node_port == inputs.rest_node_port:
        out.append(f"restNodePort: {inputs.rest_node_port} is grpcNodePort already")
    if inputs.await_load_balancer and inputs.service_type != "LoadBalancer":
        out.append("awaitLoadBalancer: only with serviceType LoadBalancer")
    if _bytes(inputs.memory_request) > _bytes(inputs.memory_limit):
        out.append(f"memoryRequest: {inputs.memory_request} is more than memoryLimit, {inputs.memory_limit}")
    if inputs.cpu_limit is not None and _cores(inputs.cpu_request) > _cores(inputs.cpu_limit):
        out.append(f"cpuRequest: {inputs.cpu_request} is more than cpuLimit, {inputs.cpu_limit}")
    return out


def _bytes(text: str) -> int:
    match = _MEMORY.fullmatch(text)
    assert match is not None  # parsed before
    return int(match[1]) * _BYTES[match[2] or ""]


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
