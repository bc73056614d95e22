"""The stacks that are committed as examples: every key is known, every value valid, nothing said twice."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.clients.pulumi_render import run_program
from slipway_stacks import rules
from slipway_stacks.inputs import Inputs, read
from slipway_stacks.kinds import InputsError

pytestmark = pytest.mark.usefixtures("an_event_loop")
FOLDER = Path(__file__).parents[2] / "stacks" / "envs"
EXAMPLES = ("dev", "prod")


def texts(stack: str) -> dict[str, str]:
    """A stack's configuration as the engine hands it to the program: a text each."""
    held: dict[str, Any] = yaml.safe_load((FOLDER / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))
    assert set(held) == {"config"}, (
        "what Pulumi adds for one user's stack, such as its salt, is not committed"
    )
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in held["config"].items()
    }


def inputs(stack: str) -> Inputs:
    given = texts(stack)
    assert all(key.startswith("slipway:") for key in given)
    return read({key.removeprefix("slipway:"): value for key, value in given.items()})


@pytest.mark.parametrize("stack", EXAMPLES)
def test_every_key_is_known_and_no_value_is_the_default(stack: str) -> None:
    found, keys = inputs(stack), {key.removeprefix("slipway:") for key in texts(stack)}
    default = Inputs(image="")
    said_twice = [
        item.metadata["key"]
        for item in fields(Inputs)
        if item.metadata["key"] in keys and getattr(found, item.name) == getattr(default, item.name)
    ]
    assert said_twice == []


@pytest.mark.parametrize("stack", EXAMPLES)
def test_the_program_takes_it_and_no_rule_is_broken(stack: str) -> None:
    rendered = run_program(texts(stack))
    assert rules.violations(rendered.manifests) == []
    spaces = {item["metadata"].get("namespace") for item in rendered.manifests} - {None}
    assert spaces == {inputs(stack).namespace} != {"serving"}


def test_a_key_that_nobody_knows_is_noticed() -> None:
    with pytest.raises(InputsError, match="replica: unknown key; did you mean replicas"):
        read({"image": inputs("dev").image, "replica": "2"})  # type: ignore[dict-item]  # known here


def test_the_two_environments_live_side_by_side() -> None:
    assert inputs("dev").namespace != inputs("prod").namespace
    assert {path.name for path in FOLDER.glob("Pulumi.*.yaml")} >= {
        f"Pulumi.{name}.yaml" for name in EXAMPLES
    }
