"""The component in programs of other people: several models, values known later, mistakes, other languages."""

from __future__ import annotations

import gc
import inspect
import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pytest
from pulumi.provider.experimental.analyzer import Analyzer
from slipway_stacks.args import ModelServerArgs, settle
from slipway_stacks.inputs import Inputs
from slipway_stacks.kinds import InputsError
from slipway_stacks.model_server import ModelServer
from slipway_stacks.outputs import Names

IMAGE = "registry.lab:5000/slipway/mnist@sha256:" + "a" * 64
Manifest = dict[str, Any]
pytestmark = pytest.mark.usefixtures("an_event_loop")


class Recorder(pulumi.runtime.Mocks):
    """The engine's place: what was registered, by type and logical name."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], Manifest] = {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        raise AssertionError(args.token)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        key = (args.typ.rpartition(":")[2], args.name)
        assert key not in self.seen, "two resources of one name: the engine refuses that"
        self.seen[key] = args.inputs
        return f"{args.name}-id", args.inputs


def run(program: Callable[[], Any], *, preview: bool = False) -> dict[tuple[str, str], Manifest]:
    """What a program registers; in a preview what others make is not known yet."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="theirs", preview=preview, logger=logging.Logger("quiet"))
    pulumi.runtime.test(lambda: program() and None)()
    return recorder.seen


def test_two_models_live_in_one_program_and_one_namespace() -> None:
    def program() -> None:
        first = ModelServer("digits", {"image": IMAGE, "model_name": "mnist"})
        second = {"image": IMAGE, "model_name": "fashion", "create_namespace": False, "replicas": 2}
        ModelServer("clothes", ModelServerArgs(**second), pulumi.ResourceOptions(depends_on=[first]))  # type: ignore[typeddict-item]  # of one dict

    seen = run(program)
    spaces = [item["metadata"]["name"] for (kind, _), item in seen.items() if kind == "Namespace"]
    assert spaces == ["serving"]
    names = {kind: set[str]() for kind, _ in seen}
    for (kind, _), item in seen.items():
        if "metadata" in item:
            name = item["metadata"]["name"]
            assert name not in names[kind], "two objects of one name in one namespace"
            names[kind].add(name)
    assert names["Deployment"] == {"mnist-deployment", "fashion-deployment"}
    assert names["Service"] == {"mnist-service", "mnist-replicas", "fashion-service", "fashion-replicas"}
    deployments = [item for (kind, _), item in seen.items() if kind == "Deployment"]
    selectors = [item["spec"]["selector"]["matchLabels"]["app"] for item in deployments]
    assert sorted(selectors) == ["fashion-server", "mnist-server"]


def test_what_another_resource_says_may_stand_for_a_value() -> None:
    """In the update the value arrives; in the preview before it nothing breaks for not being there."""

    def program() -> None:
        space = kubernetes.core.v1.Namespace("theirs", metadata={"name": "models"})
        settings = kubernetes.core.v1.ConfigMap(
            "settings", metadata={"name": "s"}, data={"count": "2", "drain": "20", "memory": "2Gi"}
        )

        def number(key: str) -> pulumi.Output[int]:
            return settings.data.apply(lambda data: int(data[key]))

        ModelServer(
            "digits",
            {
                "image": settings.data.apply(lambda _: IMAGE),
                "namespace": space.metadata.apply(lambda metadata: str(metadata.name)),
                "create_namespace": False,
                "replicas": number("count"),
                "drain_seconds": number("drain"),
                "startup_seconds": number("drain"),
                "memory_limit": settings.data.apply(lambda data: data["memory"]),
                "env": {"SHARE": settings.data.apply(lambda data: data["count"])},
                "labels": {"team": settings.data.apply(lambda _: "vision")},
                "pull_secrets": [settings.metadata.apply(lambda metadata: str(metadata.name))],
            },
        )

    run(program, preview=True)
    deployment = run(program)["Deployment", "digits-deployment"]
    assert deployment["metadata"]["namespace"] == "models"
    assert deployment["metadata"]["labels"]["team"] == "vision"
    assert deployment["spec"]["replicas"] == 2
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 25
    assert pod["imagePullSecrets"] == [{"name": "s"}]
    container = pod["containers"][0]
    assert (container["image"], container["env"]) == (IMAGE, [{"name": "SHARE", "value": "2"}])
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert container["startupProbe"]["failureThreshold"] == 10


def test_what_differs_between_servers_may_come_later_too() -> None:
    def program() -> None:
        drain = pulumi.Output.from_input(20)
        later = pulumi.Output.from_input("1")
        ModelServer(
            "digits", {"image": IMAGE, "server": "tensorflow", "drain_seconds": drain, "env": {"A": later}}
        )

    pod = run(program)["Deployment", "digits-deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 26
    (container,) = pod["containers"]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == 25
    assert [one["name"] for one in container["env"]] == ["A", "MODEL_NAME"]


WRONG: list[tuple[Manifest, list[str]]] = [
    ({}, ["image: missing; a serving image by digest"]),
    ({"image": "mnist:latest"}, ["image: expected registry/repository@sha256:"]),
    ({"image": IMAGE, "replicas": -1}, ["replicas: expected a whole number from 1 to 10000, not -1"]),
    ({"image": IMAGE, "replicas": True}, ["replicas: expected a whole number"]),
    ({"image": IMAGE, "service_type": "Ingress"}, ["service_type: expected one of ClusterIP"]),
    ({"image": IMAGE, "replica": 3}, ["replica: unknown key; did you mean replicas?"]),
    ({"image": IMAGE, "max_replicas": 2}, ["max_replicas: 2 is not more than replicas, 3"]),
    (
        {"image": "x", "spread": "even", "memory_limit": "1 GB"},
        ["image: expected", "spread: expected", "memory_limit: expected"],
    ),
]


@pytest.mark.parametrize(("args", "problems"), WRONG)
def test_every_mistake_is_told_before_anything_is_made(args: Manifest, problems: list[str]) -> None:
    with pytest.raises(InputsError) as caught:
        run(lambda: ModelServer("digits", ModelServerArgs(**args)))  # type: ignore[typeddict-item]  # wrong on purpose
    found = caught.value.problems
    assert len(found) == len(problems), found
    assert all(told.startswith(expected) for told, expected in zip(found, problems, strict=True)), found


@pytest.mark.parametrize("name", [item.name for item in fields(Inputs) if item.metadata["now"]])
def test_what_decides_which_objects_there_are_cannot_come_later(name: str) -> None:
    args: Manifest = {"image": IMAGE, name: pulumi.Output.from_input("x")}
    with pytest.raises(InputsError) as caught:
        settle(args)
    assert caught.value.problems == (f"{name}: must be known before the program runs; it is an Output",)


def test_a_value_that_comes_later_and_is_wrong_ends_the_update_with_its_name() -> None:
    later = pulumi.Output.from_input(-1)
    with pytest.raises(Exception, match=r"replicas: expected a whole number from 1 to 10000, not -1"):
        run(lambda: ModelServer("digits", {"image": IMAGE, "replicas": later}))


def test_arguments_and_inputs_are_the_same_list() -> None:
    """And what the type lets come later is what may come later."""
    hints = inspect.get_annotations(ModelServerArgs)
    assert list(hints) == [item.name for item in fields(Inputs)]
    plain = {name for name, hint in hints.items() if "Output" not in str(hint)}
    assert plain == {item.name for item in fields(Inputs) if item.metadata["now"]}


def test_what_the_owner_does_to_the_component_reaches_its_objects() -> None:
    touched: list[str] = []

    def transform(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        touched.append(args.type_.rpartition(":")[2])
        return None

    run(
        lambda: ModelServer(
            "digits",
            {"image": IMAGE},
            pulumi.ResourceOptions(transformations=[transform]),  # type: ignore[list-item]  # reads the type only
        )
    )
    assert sorted(touched) == [
        *("Deployment", "ModelServer", "Namespace", "NetworkPolicy", "PodDisruptionBudget"),
        *("Service", "Service", "ServiceAccount"),
    ]


def test_programs_in_other_languages_can_be_told_of_it() -> None:
    """Pulumi's own analyzer, which makes a package's schema of the component, understands every type."""
    gc.collect()  # CPython 3.11's parser miscounts its depth when what tests left is collected under it
    told = Analyzer("slipway").analyze([ModelServer])["component_definitions"]["ModelServer"]
    assert len(told.inputs) == len(fields(Inputs))
    assert [name for name, one in told.inputs.items() if not one.optional] == ["image"]
    described = [*told.inputs.items(), *told.outputs.items()]
    assert [name for name, one in described if not one.description] == []
    assert "grpcAddress" in told.outputs


MODELS = ["mnist", "Half_Plus.2", "half-plus-2", "3d", "a" * 63, "a" * 62 + "b", "A", "a", "___x", "x-"]


def test_names_fit_and_no_two_models_meet() -> None:
    import re

    stems = [Names(model).stem for model in MODELS]
    assert len(set(stems)) == len(MODELS)
    for model in MODELS:
        names = Names(model)
        for name in (names.deployment, names.service, names.replicas, names.container, names.server):
            assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name), name
    assert Names("mnist").labels == {
        "app": "mnist-server",
        "run": "mnist-service",
        "app.kubernetes.io/part-of": "slipway",
    }
