"""The user-data of a machine before cloud-init's own judge of it, the schema that Debian's package has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from slipway.core.context import Context
from slipway.core.state import State
from slipway.hosts.cloud_init import user_data
from slipway_stacks import cloud_init
from slipway_stacks.offers import OFFERS

from tests.integration.hosts.debian_package import unpacked

SCHEMA = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = unpacked("cloud-init", tmp_path_factory.mktemp("cloud-init"))
    return jsonschema.Draft4Validator(json.loads((root / SCHEMA).read_text(encoding="utf-8")))


def problems(judge: Any, text: str) -> list[str]:
    assert text.startswith("#cloud-config\n")
    return [f"{error.json_path}: {error.message}" for error in judge.iter_errors(yaml.safe_load(text))]


def test_what_slipway_prints_for_a_machine_is_user_data(judge: Any, tmp_path: Path) -> None:
    made = user_data(Context(State(tmp_path / ".slipway"), tmp_path, tmp_path), "cp")
    assert problems(judge, made.text) == []
    assert problems(judge, made.text.replace("ssh_pwauth: false", "ssh_pwauth: {}")) != []


@pytest.mark.parametrize("cloud", OFFERS)
def test_what_each_cloud_is_given_is_user_data(judge: Any, cloud: str) -> None:
    text = cloud_init.user_data(
        *("cp", "slipway", "ssh-ed25519 AAAA"),
        host_key="-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n",
        host_key_public="ssh-ed25519 BBBB",
        files=OFFERS[cloud].files,
    )
    assert problems(judge, text) == []
    assert {file["path"] for file in yaml.safe_load(text).get("write_files", [])} == set(OFFERS[cloud].files)
