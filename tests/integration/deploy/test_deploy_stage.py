"""Manifests for others, from the program itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import ImageRef
from slipway.deploy import declaration

IMAGE = ImageRef("r.lab:5000/mnist", "sha256:" + "a" * 64, "1", "portable", "half_plus_two", 7, "0")


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def test_rendered_for_others_has_the_namespace_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: slipway\n")
    (tmp_path / "Pulumi.lab.yaml").write_text(
        "config: {slipway:memoryLimit: 4Gi, slipway:labels: {team: a}}\n"
    )
    ctx = Context(State(tmp_path / ".slipway"), tmp_path, tmp_path)
    asked = settings(deploy={"namespace": "models", "memory_request": "3Gi", "cpu_limit": "2"})
    found = declaration.render(ctx, asked, IMAGE)
    deployment = next(item for item in found if item["kind"] == "Deployment")
    assert deployment["metadata"]["labels"]["team"] == "a"
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "3Gi"},
        "limits": {"memory": "4Gi", "cpu": "2"},
    }
    assert found[0]["kind"] == "Namespace"
    assert {item["metadata"].get("namespace", "models") for item in found} == {"models"}
    assert "Secret" not in {item["kind"] for item in found}
