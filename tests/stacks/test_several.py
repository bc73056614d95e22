"""Several models in one stack: read from `models`, checked against one another, and what the program makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from slipway.clients.pulumi_render import Rendered, run_program
from slipway_stacks import rules
from slipway_stacks.kinds import InputsError
from slipway_stacks.several import read_each

from tests.stacks.under_mocks import run

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).parent / "snapshots" / "several.yaml"
pytestmark = pytest.mark.usefixtures("an_event_loop")


def image(last: str) -> str:
    return f"registry.lab:5000/slipway/any@sha256:{last * 64}"


TWO: dict[str, dict[str, Any]] = {
    "digits": {"image": image("a"), "replicas": 2},
    "Half_Plus.2": {"image": image("d")},
}


def written(models: Any = TWO, **common: str) -> dict[str, str]:
    return {"models": json.dumps(models), **common}


def problems(models: Any = TWO, **common: str) -> tuple[str, ...]:
    with pytest.raises(InputsError) as caught:
        read_each(written(models, **common))
    return caught.value.problems


def program(**values: str) -> Rendered:
    return run_program({f"slipway:{key}": value for key, value in values.items()})


def test_one_model_is_read_as_ever() -> None:
    (name,) = read_each({"image": image("a"), "modelName": "digits"})
    assert name == ""


def test_a_models_own_inputs_win_over_the_stacks() -> None:
    made = read_each(written(replicas="5", spread="preferred"))
    assert {name: (one.model_name, one.replicas) for name, one in made.items()} == {
        "digits": ("digits", 2),
        "Half_Plus.2": ("Half_Plus.2", 5),
    }
    assert {one.spread for one in made.values()} == {"preferred"}


def test_values_may_be_texts_or_what_pulumi_makes_of_them() -> None:
    """`pulumi config set --path models.a.replicas 2` writes a number, a file of a person's may hold a text."""
    its = {
        "image": image("a"),
        "replicas": "2",
        "podMonitor": True,
        "env": {"A": "1"},
        "labels": '{"b": "c"}',
    }
    (one,) = read_each(written({"a": its})).values()
    assert (one.replicas, one.pod_monitor, one.env, one.labels) == (2, True, {"A": "1"}, {"b": "c"})


def test_one_image_may_be_all_models() -> None:
    made = read_each(written({"a": {}, "b": {}}, image=image("a"), server="tensorflow"))
    assert {one.image for one in made.values()} == {image("a")}


WRONG: list[tuple[Any, dict[str, str], list[str]]] = [
    ([], {}, ["models: expected a name with its inputs each"]),
    ({}, {}, ["models: expected a name with its inputs each"]),
    ({"..": {}, "a": {"image": image("a")}}, {}, ["models: expected names of letters, digits, _ . -"]),
    ({"a": 3}, {}, ["models.a: expected inputs by key, not 3"]),
    ({"a": {}}, {}, ["models.a.image: missing; `pulumi config set --path models.a.image REGISTRY"]),
    (TWO, {"modelName": "x"}, ["modelName: only without models: each is called by its name there"]),
    (TWO, {"replicsa": "3"}, ["replicsa: unknown key; did you mean replicas?"]),
    (
        {"a": {"image": "mnist:latest", "replicsa": 3, "replicas": 0}},
        {"spread": "even"},
        [
            "spread: expected one of required, preferred",
            "models.a.image: expected registry/repository@sha256:",
            "models.a.replicsa: unknown key; did you mean replicas?",
            "models.a.replicas: expected a whole number from 1 to 10000, not 0",
        ],
    ),
    (TWO, {"maxReplicas": "4"}, []),
    (
        TWO,
        {"maxReplicas": "2"},
        ["maxReplicas: 2 is not more than models.digits.replicas, 2", "maxReplicas: 2 is not"],
    ),
    (
        {"a": {"image": image("a")}, "b": {"image": image("a"), "modelName": "a"}},
        {},
        ["models.b.modelName: a is the name of models.a already"],
    ),
    (
        {
            "a": {"image": image("a"), "grpcNodePort": 30500},
            "b": {"image": image("a"), "restNodePort": 30500},
        },
        {"serviceType": "NodePort"},
        ["models.b.restNodePort: 30500 is a port of models.a already"],
    ),
]


@pytest.mark.parametrize(("models", "common", "told"), WRONG)
def test_every_mistake_is_told_at_once_and_where(
    models: Any, common: dict[str, str], told: list[str]
) -> None:
    if not told:
        read_each(written(models, **common))
        return
    found = problems(models, **common)
    assert len(found) == len(told), found
    for expected in told:
        assert any(problem.startswith(expected) for problem in found), (expected, found)


def at_gateway(**own: dict[str, str]) -> dict[str, Any]:
    return {name: {"image": image("a"), **keys} for name, keys in own.items()}


LISTENERS = {"gateway": "outside", "restListener": "https", "grpcListener": "grpc"}
ROUTES: list[tuple[dict[str, Any], dict[str, str], list[str]]] = [
    (
        at_gateway(a={"restHostname": "a.x", "grpcHostname": "g.a.x"}, b={}),
        {},
        ["models.a.restHostname: only"],
    ),
    (
        at_gateway(a={}, b={}),
        LISTENERS,
        ["models.b.restHostname: all hosts", "models.b.grpcHostname: all hosts"],
    ),
    (
        at_gateway(a={"restHostname": "a.x"}, b={"restHostname": "b.x"}),
        {**LISTENERS, "grpcHostname": "g.x"},
        ["models.b.grpcHostname: g.x at Gateway outside may be grpcHostname of models.a too"],
    ),
    (
        at_gateway(
            a={"restHostname": "a.x", "grpcHostname": "g.a.x"},
            b={"restHostname": "*.b.x", "grpcHostname": "a.x"},
        ),
        {"gateway": "outside"},
        ["models.b.grpcHostname: a.x at Gateway outside may be restHostname of models.a too"],
    ),
    (
        at_gateway(
            a={"restHostname": "a.x", "grpcHostname": "g.a.x"},
            b={"restHostname": "b.x", "grpcHostname": "g.b.x"},
        ),
        {"gateway": "outside"},
        [],
    ),
    (at_gateway(a={}, b={"gateway": "inside"}), LISTENERS, []),
    (at_gateway(a={}, b={"namespace": "elsewhere"}), LISTENERS, []),  # a Gateway of that name there
]


@pytest.mark.parametrize(("models", "common", "told"), ROUTES)
def test_two_models_at_one_gateway(models: Any, common: dict[str, str], told: list[str]) -> None:
    if not told:
        read_each(written(models, **common))
        return
    found = problems(models, **common)
    for expected in told:
        assert any(problem.startswith(expected) for problem in found), (expected, found)


def test_the_manifests_are_as_reviewed() -> None:
    """After a wanted change: SNAPSHOT=1 pytest tests/stacks, then read the diff."""
    import os

    found = program(**written(podMonitor="true", replicas="3"))
    text = "---\n".join(yaml.safe_dump(item, sort_keys=False, width=100) for item in found.manifests)
    if os.environ.get("SNAPSHOT"):
        SNAPSHOT.write_text(text)
    assert text == SNAPSHOT.read_text()
    assert rules.violations(found.manifests) == []


def test_each_model_has_its_own_objects_and_the_namespace_is_made_once() -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in program(**written()).manifests]
    assert len(set(names)) == len(names) == 13
    assert [name for kind, name in names if kind == "Namespace"] == ["serving"]
    apart = {**TWO, "digits": {**TWO["digits"], "namespace": "other"}}
    spaces = [
        item["metadata"]["name"]
        for item in program(**written(apart)).manifests
        if item["kind"] == "Namespace"
    ]
    assert sorted(spaces) == ["other", "serving"]
    assert "Namespace" not in {item["kind"] for item in program(**written(createNamespace="false")).manifests}


def test_a_models_objects_are_those_of_a_stack_that_has_it_alone() -> None:
    together = program(**written(createNamespace="false")).manifests
    alone = program(image=image("a"), modelName="digits", replicas="2", createNamespace="false").manifests
    assert [item for item in together if item["metadata"]["name"].startswith("digits-")] == list(alone)


def test_the_models_wait_for_their_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {f"slipway:{key}": value for key, value in written().items()}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(values))
    made = run(str(ROOT / "stacks" / "__main__.py"))
    (space,) = [one["name"] for one in made if one["type"] == "kubernetes:core/v1:Namespace"]
    assert space == "serving-namespace"
    assert {one["name"] for one in made if one["type"] == "slipway:index:ModelServer"} == set(TWO)


def test_wrong_models_end_the_program_in_one_message() -> None:
    with pytest.raises(pulumi.RunError, match=r"(?s)models.a.image: missing.*models.b.x: unknown key"):
        program(**written({"a": {}, "b": {"image": image("a"), "x": 1}}))
