"""Logins at registries, as the tools that make them leave them in their files."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from slipway.clients import docker_logins
from slipway.core.errors import EnvironmentFault
from slipway.core.process import Completed


def kept(path: Path, **document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def auth(name: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_the_first_file_that_knows_the_registry_counts(tmp_path: Path) -> None:
    named = kept(tmp_path / "auth.json", auths={"a.example": auth("podman", "p:1")})
    kept(
        tmp_path / ".docker" / "config.json",
        auths={"a.example": auth("docker", "p"), "b.example:5000": auth("b", "q")},
    )
    kept(tmp_path / "run" / "containers" / "auth.json", auths={"c.example": auth("c", "r")})
    environment = {
        "HOME": str(tmp_path),
        "REGISTRY_AUTH_FILE": str(named),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    assert docker_logins.of("a.example", environment) == ("podman", "p:1")
    assert docker_logins.of("b.example:5000", environment) == ("b", "q")
    assert docker_logins.of("c.example", environment) == ("c", "r")
    assert docker_logins.of("b.example", environment) is None
    other = {"DOCKER_CONFIG": str(tmp_path / "elsewhere"), "HOME": str(tmp_path)}
    assert docker_logins.of("a.example", other) is None


def test_docker_hub_goes_by_its_old_name(tmp_path: Path) -> None:
    kept(tmp_path / "config.json", auths={"https://index.docker.io/v1/": auth("me", "p")})
    assert docker_logins.of("docker.io", {"DOCKER_CONFIG": str(tmp_path)}) == ("me", "p")


def test_a_credential_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(argv: list[str], *, input: str, **_: Any) -> Completed:
        asked.append((*argv, input))
        known = input == "a.example"
        return Completed(
            tuple(argv), not known, '{"Username": "me", "Secret": "p"}' if known else "", "not found"
        )

    monkeypatch.setattr("slipway.core.process.run", run)
    kept(tmp_path / "config.json", credHelpers={"a.example": "ecr-login"}, credsStore="pass")
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    assert docker_logins.of("a.example", environment) == ("me", "p")
    assert docker_logins.of("b.example", environment) is None
    assert asked[0] == ("docker-credential-ecr-login", "get", "a.example")
    assert asked[1] == ("docker-credential-pass", "get", "b.example")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"a.example": {"auth": "%%%"}}}', '{"auths": []}'])
def test_a_file_that_is_none_is_named_and_nothing_of_it_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(EnvironmentFault, match="cannot read the logins") as refused:
        docker_logins.of("a.example", {"DOCKER_CONFIG": str(tmp_path)})
    assert refused.value.where == str(file)
    assert "%%%" not in refused.value.what
