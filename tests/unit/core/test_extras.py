"""A missing extra is told by name, with the command that installs it into the Python slipway runs on."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from slipway.core import extras, project
from slipway.core.errors import EnvironmentFault

ROOT = Path(__file__).parents[3]


@pytest.fixture
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("tensorflow", "mlxtend") else found(name)
    )


def test_each_extra_is_one_of_the_distribution() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.MODULES) == set(declared)


def test_looking_for_tensorflow_does_not_import_it() -> None:
    before = set(sys.modules)
    assert extras.missing("train") == ()
    assert "tensorflow.python" not in set(sys.modules) - before


@pytest.mark.usefixtures("without_tensorflow")
def test_a_missing_extra_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(project, "checkout", lambda: None)
    monkeypatch.setattr(project, "WHEELS", tmp_path / "the wheels")
    with pytest.raises(EnvironmentFault) as caught:
        extras.need("train", "exporting a model")
    assert caught.value.what == (
        "exporting a model needs the extra `train` of slipway-serving, which is not installed "
        "(tensorflow, mlxtend cannot be imported)"
    )
    words = [sys.executable, "-m", "pip", "install", "--find-links", str(tmp_path / "the wheels")]
    assert shlex.split(caught.value.action) == [*words, "slipway-serving[train]"]
    assert caught.value.exit_code == 3


@pytest.mark.usefixtures("without_tensorflow")
def test_in_a_checkout_make_setup_brings_every_extra() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        extras.need("train", "training")
    assert caught.value.action == "make setup"
