"""Manifests for others, from the program itself."""

from __future__ import annotations

from typing import Any

from slipway.core.schema import Settings
from slipway.core.types import ImageRef
from slipway.deploy import declaration

IMAGE = ImageRef("r.lab:5000/mnist", "sha256:" + "a" * 64, "1", "portable", "half_plus_two", 7, "0")


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def test_rendered_for_others_has_the_namespace_and_no_secret() -> None:
    found = declaration.render(settings(deploy={"namespace": "models"}), IMAGE)
    assert found[0]["kind"] == "Namespace"
    assert {item["metadata"].get("namespace", "models") for item in found} == {"models"}
    assert "Secret" not in {item["kind"] for item in found}
