"""What a stack is given: its name, configuration and variables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from slipway.clients import pulumi_stack
from slipway.core.errors import UsageError

IMAGE = "registry.lab:5000/slipway/mnist@sha256:" + "a" * 64


def test_the_configuration_file_keeps_what_is_pulumis_own(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_text("encryptionsalt: v1:abc\nconfig:\n  slipway:replicas: '9'\n  slipway:image: old\n")
    config = pulumi_stack.full_config({"image": IMAGE}, "there")
    written = {"slipway:replicas": "9", "slipway:image": "old"}
    assert pulumi_stack.write_config(file, config, written)
    held = yaml.safe_load(file.read_text())
    assert held == {
        "encryptionsalt": "v1:abc",
        "config": {"slipway:image": IMAGE, "kubernetes:context": "there"},
    }
    assert not pulumi_stack.write_config(file, config, config)


OF_PEOPLE = """config:
  slipway:memoryLimit: 2Gi
  slipway:replicas: 5
  slipway:labels: {team: digits}
  slipway:podMonitor: true
  slipway:env: {secure: v1:abc}
  slipway:image: old
  aws:region: eu-central-1
"""


def test_what_people_set_stays_and_is_read_as_text(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_text(OF_PEOPLE)
    written = {"slipway:image": "old", "slipway:replicas": "3"}  # 3 is what slipway wrote, 5 somebody else
    assert pulumi_stack.own_values(file, written) == {
        "memoryLimit": "2Gi",
        "replicas": "5",
        "labels": '{"team": "digits"}',
        "podMonitor": "true",
    }
    config = pulumi_stack.full_config({"image": IMAGE}, None)
    pulumi_stack.write_config(file, config, written)
    held = yaml.safe_load(file.read_text())["config"]
    assert held == yaml.safe_load(OF_PEOPLE)["config"] | {"slipway:image": IMAGE}
    assert not pulumi_stack.take_back(file, config)
    assert "slipway:image" not in yaml.safe_load(file.read_text())["config"]
    assert pulumi_stack.own_values(tmp_path / "none", {}) == {}


def test_a_file_of_nothing_but_slipways_own_goes(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.lab.yaml"
    config = pulumi_stack.full_config({"image": IMAGE}, "there")
    pulumi_stack.write_config(file, config, {})
    assert pulumi_stack.take_back(file, config)
    assert not file.exists()


def test_a_previews_configuration_leaves_the_stacks_file_alone(tmp_path: Path) -> None:
    file, target = tmp_path / "Pulumi.lab.yaml", tmp_path / "preview.yaml"
    file.write_text("encryptionsalt: v1:abc\n")
    pulumi_stack.write_config(file, {"slipway:image": IMAGE}, {}, target)
    assert file.read_text() == "encryptionsalt: v1:abc\n"
    assert yaml.safe_load(target.read_text())["encryptionsalt"] == "v1:abc"


def test_variables_keep_the_state_here_and_the_passphrase_to_us(tmp_path: Path) -> None:
    folder = tmp_path / "pulumi"
    first = pulumi_stack.environment(folder, tmp_path / "kubeconfig", "lab")
    assert first == pulumi_stack.environment(folder, tmp_path / "kubeconfig", "lab")
    passphrase = Path(first["PULUMI_CONFIG_PASSPHRASE_FILE"])
    assert passphrase.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(passphrase.read_text()) >= 32
    assert passphrase.read_text() not in json.dumps(first)
    assert first["PULUMI_BACKEND_URL"] == f"file://{folder / 'backend'}"
    assert (folder / "backend").is_dir()
    assert first["PULUMI_K8S_ENABLE_PATCH_FORCE"] == "true"
    other = pulumi_stack.environment(folder, tmp_path / "kubeconfig", "lab", "s3://bucket/states")
    assert other == {**first, "PULUMI_BACKEND_URL": "s3://bucket/states"}
    assert (first["KUBECONFIG"], first["PULUMI_STACK"]) == (str(tmp_path / "kubeconfig"), "lab")


def test_a_project_is_used_where_the_python_it_names_is_there(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: a\nruntime: {name: python, options: {virtualenv: .venv}}\n")
    assert not pulumi_stack.has_venv(tmp_path)
    (tmp_path / ".venv").mkdir()
    assert pulumi_stack.has_venv(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: a\nruntime: python\n")
    assert pulumi_stack.has_venv(tmp_path)


def test_each_state_folder_has_a_stack_of_its_own(tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert pulumi_stack.stack_name(project, project / ".slipway") == "lab"
    other = pulumi_stack.stack_name(project, tmp_path / "elsewhere" / ".slipway")
    assert other.startswith("lab-")
    assert other != pulumi_stack.stack_name(project, tmp_path / "third" / ".slipway")


def test_an_installed_slipways_project_is_copied_to_where_it_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried, state = Path(__file__).parents[3], tmp_path / ".slipway"
    there = pulumi_stack.copy_project(carried, state / "pulumi" / "project")
    text = (there / "stacks" / "__main__.py").read_bytes()
    assert text == (carried / "stacks" / "__main__.py").read_bytes()
    settings = yaml.safe_load((there / "Pulumi.yaml").read_text())
    assert settings["runtime"]["options"]["virtualenv"] == sys.prefix
    assert pulumi_stack.stack_file(there, "lab") == there / "stacks" / "envs" / "Pulumi.lab.yaml"
    assert pulumi_stack.stack_name(there, state) == "lab"
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    outside = yaml.safe_load((pulumi_stack.copy_project(carried, there) / "Pulumi.yaml").read_text())
    assert outside["runtime"]["options"] == {"toolchain": "pip"}


BROKEN = [
    ("config: [1]\n", "expected keys and values below config:"),
    ("config: [1\n", r"Pulumi\.lab\.yaml:2: not YAML: expected ',' or '\]'"),
    ("config: !secret x\n", r"Pulumi\.lab\.yaml:1: not YAML: could not determine a constructor"),
    ("when: 2024-02-30\n", "not YAML: day"),
    ("? [a]\n: 1\n", "not YAML: "),
    ("[" * 3000, "not YAML: "),
    ("- a list\n", "expected keys and values, as Pulumi writes them"),
    ("a\0b", "not YAML: "),
    ("caf\udce9: 1\n", r"Pulumi\.lab\.yaml:1: not UTF-8"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_stacks_file_that_somebody_broke_is_told_and_kept(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=said) as refused:
        pulumi_stack.write_config(file, {"slipway:replicas": "3"}, {})
    assert all(line.isprintable() for line in refused.value.lines())
    assert file.read_bytes() == text.encode("utf-8", "surrogateescape")
