"""Where playbooks, program and version come from: a checkout, or what an installed driver carries."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest
from slipway.core import project

ROOT = Path(__file__).parents[3]


def test_a_checkout_is_its_own_project() -> None:
    assert project.checkout() == project.folder() == ROOT
    assert (project.folder() / "playbooks" / "site.yml").is_file()
    assert not project.carried(ROOT)
    assert project.version() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_an_installed_driver_has_what_it_carries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(project, "_CARRIED", tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"9 of {name}")
    assert project.checkout() is None
    assert project.folder() == tmp_path
    assert project.carried(tmp_path) and not project.carried(ROOT)
    assert project.version() == "9 of slipway-serving"
