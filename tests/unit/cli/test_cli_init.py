"""`slipway init` and `slipway setup` as they are typed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.hosts.nspawn import controller
from slipway.status import packages

Said = tuple[int, str, str]


@pytest.fixture
def slipway(
    slipway: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Said]:
    """`slipway WORDS` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*words: str) -> Said:
        code = slipway(*words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_without_a_preset_it_is_a_lab(slipway: Callable[..., Said], tmp_path: Path) -> None:
    code, _, err = slipway("init")
    assert (code, err) == (0, "wrote slipway.yaml\nnext:     slipway doctor\nnext:     slipway up\n")
    assert "backend: nspawn" in (tmp_path / "slipway.yaml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["slipway.yaml"]


def test_a_file_that_is_there_is_never_overwritten(slipway: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "slipway.yaml").write_text("mine")
    code, _, err = slipway("init")
    assert code == 2 and "slipway.yaml is there already" in err
    assert (tmp_path / "slipway.yaml").read_text() == "mine"


def test_machines_that_exist_get_an_inventory_to_fill_in(
    slipway: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "inventory.yml").write_text("mine")
    assert slipway("init", "--preset", "ssh")[0] == 0
    assert (tmp_path / "inventory.yml").read_text() == "mine"
    for file in ("inventory.yml", "slipway.yaml"):
        (tmp_path / file).unlink()
    assert "wrote inventory.yml\n" in slipway("init", "--preset", "ssh")[2]
    assert "control_plane:" in (tmp_path / "inventory.yml").read_text()


def test_what_only_the_user_knows_is_said(slipway: Callable[..., Said], tmp_path: Path) -> None:
    code, _, err = slipway("init", "--preset", "cluster")
    assert code == 0
    assert "to fill in:\nslipway.yaml:" in err
    assert f"{tmp_path}/.kube/config does not exist" in err
    assert "next:     name your registry in image.registry\n" in err


def test_another_name_and_one_document(slipway: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    code, out, _ = slipway("init", "--preset", "ssh", "--config", "there/mine.yaml", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["wrote"] == ["there/mine.yaml", "there/inventory.yml"]
    assert told["fill_in"] == [] and told["next"][-1] == "slipway up"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["inventory.yml", "mine.yaml"]


def test_a_folder_that_is_not_there_is_said(slipway: Callable[..., Said]) -> None:
    code, _, err = slipway("init", "--config", "nowhere/slipway.yaml")
    assert code == 2 and "cannot write nowhere/slipway.yaml: No such file or directory" in err


def test_setup_installs_what_is_missing_and_says_so(
    slipway: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "missing", lambda settings: ("mmdebstrap",))
    installed: list[tuple[str, ...]] = []
    monkeypatch.setattr(packages, "install", lambda names, emit: installed.append(names))
    assert slipway("setup")[:2] == (0, "installed: mmdebstrap\n")
    assert json.loads(slipway("setup", "--json")[1]) == {"installed": ["mmdebstrap"]}
    assert installed == [("mmdebstrap",)] * 2
    monkeypatch.setattr(packages, "missing", lambda settings: ())
    assert slipway("setup")[:2] == (0, "nothing to install\n")
    assert len(installed) == 2
    assert list(tmp_path.iterdir()) == [], "no state folder is made for it"


def test_setup_that_cannot_install_ends_with_the_environments_code(
    slipway: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "missing", lambda settings: ("mmdebstrap",))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/apt-get")
    monkeypatch.setattr(controller, "install", lambda *_: pytest.fail("apt was started"))
    code, out, err = slipway("setup")
    assert (code, out) == (3, "")
    assert "sudo apt-get install --no-install-recommends mmdebstrap" in err
