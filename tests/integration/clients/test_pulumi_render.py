"""Rendering as a process of its own."""

from __future__ import annotations

import json

import pytest
from slipway.clients.pulumi_render import render
from slipway.core.errors import UsageError

IMAGE = "registry.lab:5000/slipway/mnist@sha256:" + "a" * 64


def test_rendering_twice_gives_the_same() -> None:
    first = render({"image": IMAGE, "createNamespace": "false"})
    assert first == render({"image": IMAGE, "createNamespace": "false"})
    assert "Namespace" not in {item["kind"] for item in first.manifests}
    (deployment,) = [item for item in first.manifests if item["kind"] == "Deployment"]
    assert type(deployment["spec"]["replicas"]) is int


def test_configuration_of_the_callers_shell_does_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({"slipway:replicas": "7"}))
    found = render({"image": IMAGE})
    (deployment,) = [item for item in found.manifests if item["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 3


def test_wrong_inputs_are_told_all_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        render({"image": "mnist:latest", "replicas": "none"})
    assert "image: expected" in caught.value.tail
    assert "replicas: expected" in caught.value.tail
    assert "Traceback" not in caught.value.tail
