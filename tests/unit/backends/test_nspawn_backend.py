from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_network import LAB

from infra.backends import controller, nspawn
from infra.backends.labs import Records, lab_name
from infra.core.context import Context
from infra.core.errors import EnvironmentFault, HostError
from infra.core.schema import Settings
from infra.core.state import State


def context(folder: Path) -> Context:
    return Context(State(folder), folder / "run", folder)


def test_root_and_linux_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = nspawn.Nspawn(Records(tmp_path / "labs"))
    monkeypatch.setattr(controller.os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentFault, match="needs root") as refused:
        backend.up(context(tmp_path), Settings())
    assert refused.value.exit_code == 3
    monkeypatch.setattr(controller.sys, "platform", "darwin")
    with pytest.raises(EnvironmentFault, match="darwin"):
        backend.plan(context(tmp_path), Settings())


def test_down_without_a_lab_does_nothing(tmp_path: Path) -> None:
    assert nspawn.Nspawn(Records(tmp_path / "labs")).down(context(tmp_path)) == []
    assert nspawn.Nspawn(Records(tmp_path / "labs")).status(context(tmp_path)) == ()


def test_down_refuses_a_record_of_another_state_folder(tmp_path: Path) -> None:
    records = Records(tmp_path / "labs")
    records.folder.mkdir()
    records.write(replace(LAB, name=lab_name(tmp_path / "mine"), state=tmp_path / "yours"))
    with pytest.raises(HostError, match="yours"):
        nspawn.Nspawn(records).down(context(tmp_path / "mine"))
