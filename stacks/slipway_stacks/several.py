"""The models of a stack: the one that its configuration describes, or those that it lists under `models`.

`models` maps a name to the inputs in which that model differs from the stack's own keys. Needs no engine.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from slipway_stacks.inputs import MODEL, Inputs, apart, contradictions, missing_image, read
from slipway_stacks.kinds import InputsError, taken

KEY: Final = "models"
EXPECTED: Final = 'a name with its inputs each, e.g. {"mnist": {"image": "..."}, "other": {"image": "..."}}'

_KEYS: Final = {item.name: item.metadata["key"] for item in fields(Inputs)}


def read_each(values: Mapping[str, str]) -> dict[str, Inputs]:
    """Name -> inputs of each model, from configuration values by key, without the `slipway:` before it.

    Without `models` it is one, whose name is empty. Raises InputsError with every problem at once: those of
    each model, and what two of them cannot both have.
    """
    if KEY not in values:
        return {"": read(values)}
    problems: list[str] = []
    common = taken({key: text for key, text in values.items() if key != KEY}, problems, of=Inputs)
    if "model_name" in common.given or "model_name" in common.refused:
        problems.append(f"{_KEYS['model_name']}: only without {KEY}: each is called by its name there")
    made: dict[str, Inputs] = {}
    for name, its in _listed(values[KEY], problems).items():
        own = taken(its, problems, before=f"{KEY}.{name}.", of=Inputs)
        made[name] = Inputs(**{**common.given, "model_name": name, **own.given})
        said = {item: f"{KEY}.{name}.{key}" if key in its else key for item, key in _KEYS.items()}
        refused = own.refused | {item for item in common.refused if item not in own.given}
        if _KEYS["image"] not in {**values, **its}:
            problems.append(f"{KEY}.{name}.{missing_image(f'--path {KEY}.{name}.image')}")
        problems += contradictions(made[name], refused, said)
    problems += _clashes(made)
    if problems:
        raise InputsError(tuple(dict.fromkeys(problems)))
    return made


def _listed(text: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Name -> inputs as they are written; what is no such mapping becomes a problem."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found:
        problems.append(f"{KEY}: expected {EXPECTED}, not {text!r}")
        return {}
    out: dict[str, dict[str, Any]] = {}
    for name, its in found.items():
        if not MODEL.holds(name):
            problems.append(f"{KEY}: expected names of {MODEL.expected}, not {name!r}")
        elif not isinstance(its, dict):
            problems.append(f"{KEY}.{name}: expected inputs by key, not {its!r}")
        else:
            out[name] = its
    return out


def _clashes(made: Mapping[str, Inputs]) -> list[str]:
    """What two models cannot both have: a name, a port of the nodes, a place at a Gateway."""
    out: list[str] = []
    for (one, its), (other, others) in itertools.combinations(made.items(), 2):
        if its.model_name == others.model_name:
            out.append(f"{KEY}.{other}.modelName: {others.model_name} is the name of {KEY}.{one} already")
        wanted = {"grpcNodePort": others.grpc_node_port, "restNodePort": others.rest_node_port}
        out += [
            f"{KEY}.{other}.{key}: {port} is a port of {KEY}.{one} already"
            for key, port in wanted.items()
            if port is not None and port in (its.grpc_node_port, its.rest_node_port)
        ]
        out += _routes(one, its, other, others)
    return out


def _routes(one: str, its: Inputs, other: str, others: Inputs) -> list[str]:
    """Places at one Gateway that both want: of two routes for one host it serves the older alone."""
    if its.gateway is None or _gateway(its) != _gateway(others):
        return []
    out = []
    for mine, theirs in itertools.product(("rest", "grpc"), repeat=2):
        hosts: Sequence[Any] = (getattr(its, f"{mine}_hostname"), getattr(others, f"{theirs}_hostname"))
        listeners = (getattr(its, f"{mine}_listener"), getattr(others, f"{theirs}_listener"))
        elsewhere = None not in listeners and listeners[0] != listeners[1]
        # a name wins over a wildcard among routes of one kind; of two kinds a listener takes one
        if elsewhere or (hosts[0] != hosts[1] if mine == theirs else apart(*hosts)):
            continue
        what = f"{hosts[1]} at Gateway {its.gateway}" if hosts[1] else f"all hosts of Gateway {its.gateway}"
        out.append(
            f"{KEY}.{other}.{theirs}Hostname: {what} may be {mine}Hostname of {KEY}.{one} too: set another "
            f"host, or another {theirs}Listener"
        )
    return out


def _gateway(inputs: Inputs) -> tuple[Any, Any]:
    return inputs.gateway, inputs.gateway_namespace or inputs.namespace
