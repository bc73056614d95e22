"""Somebody else's program of thirty lines, which imports the component and deploys two models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway_stacks import rules

from tests.stacks.under_mocks import run

ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests" / "stacks" / "two_models"
pytestmark = pytest.mark.usefixtures("an_event_loop")


def image(last: str) -> str:
    return f"registry.lab:5000/models/any@sha256:{last * 64}"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    values = {"namespace": "models", "digits": image("a"), "clothes": image("d")}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({f"models:{key}": value for key, value in values.items()}))
    return run(str(HERE / "__main__.py"))


def test_it_is_thirty_lines() -> None:
    assert len((HERE / "__main__.py").read_text(encoding="utf-8").splitlines()) <= 40
    project = yaml.safe_load((HERE / "Pulumi.yaml").read_text(encoding="utf-8"))
    assert set(project["config"]) == {"namespace", "digits", "clothes"}


def test_both_models_have_their_own_objects_in_one_namespace(made: list[dict[str, Any]]) -> None:
    manifests = [one["inputs"] for one in made if one["type"].startswith("kubernetes:")]
    names = [(item["kind"], item["metadata"]["name"]) for item in manifests]
    assert len(set(names)) == len(names) == 13
    assert [name for kind, name in names if kind == "Namespace"] == ["models"]
    spaces = {item["metadata"]["namespace"] for item in manifests if item["kind"] != "Namespace"}
    assert spaces == {"models"}
    images = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["image"]
        for item in manifests
        if item["kind"] == "Deployment"
    }
    assert images == {"digits-deployment": image("a"), "clothes-deployment": image("d")}
    assert rules.violations(manifests) == []


def test_one_model_is_told_where_the_other_answers(made: list[dict[str, Any]]) -> None:
    (clothes,) = [one for one in made if one["name"] == "clothes-deployment"]
    (container,) = clothes["inputs"]["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "DIGITS", "value": "digits-service.models:8500"}]


def test_the_manual_shows_this_very_program() -> None:
    manual = (ROOT / "docs" / "component.md").read_text(encoding="utf-8")
    assert f"```python\n{(HERE / '__main__.py').read_text(encoding='utf-8')}```" in manual
