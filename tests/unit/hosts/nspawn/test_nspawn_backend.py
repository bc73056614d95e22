from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, HostError
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.hosts.nspawn import kernel_modules, network
from slipway.hosts.nspawn.backend import Nspawn
from slipway.hosts.nspawn.labs import Records, lab_name

from tests.unit.hosts.nspawn.test_network import LAB


def context(folder: Path) -> Context:
    return Context(State(folder), folder / "run", folder)


def test_root_and_linux_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Nspawn(Records(tmp_path / "labs"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentFault, match="needs root") as refused:
        backend.up(context(tmp_path), Settings())
    assert refused.value.exit_code == 3
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EnvironmentFault, match="darwin"):
        backend.plan(context(tmp_path), Settings())


@pytest.mark.parametrize(
    ("came", "forwarding", "unloaded"),
    [((), "0\n", ["vxlan", "br_netfilter"]), (("docker0",), "1\n", ["vxlan"])],
    ids=["nobody needs it", "an engine came meanwhile"],
)
def test_the_last_lab_puts_back_what_nobody_else_needs(
    came: tuple[str, ...],
    forwarding: str,
    unloaded: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    switch = tmp_path / "ip_forward"
    switch.write_text("1\n")
    asked: list[str] = []
    monkeypatch.setattr(network, "IP_FORWARD", switch)
    monkeypatch.setattr(network, "newcomers", lambda _lab: came)
    monkeypatch.setattr(network, "down", lambda _lab: [])
    monkeypatch.setattr(kernel_modules, "unload", asked.extend)
    said: list[str] = []
    ctx = replace(context(tmp_path / "s"), emit=lambda event: said.append(str(event)))
    records = Records(tmp_path / "labs")
    records.folder.mkdir()
    lab = replace(LAB, name=lab_name(tmp_path / "s"), state=tmp_path / "s")
    records.write(replace(lab, modules_loaded=("vxlan", "br_netfilter")))
    removed = Nspawn(records).down(ctx)
    assert switch.read_text() == forwarding
    assert asked == unloaded
    assert ("net.ipv4.ip_forward, back to 0" in removed) == (not came)
    assert [came[0] in line for line in said if "stays on" in line] == [True] * len(came)


def test_settings_stay_while_a_lab_nobody_can_read_may_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "ip_forward"
    switch.write_text("1\n")
    monkeypatch.setattr(network, "IP_FORWARD", switch)
    monkeypatch.setattr(network, "down", lambda _lab: [])
    records = Records(tmp_path / "labs")
    records.folder.mkdir()
    records.write(replace(LAB, name=lab_name(tmp_path / "s"), state=tmp_path / "s"))
    (records.folder / "slip-def456.json").write_text("{")
    said: list[str] = []
    ctx = replace(context(tmp_path / "s"), emit=lambda event: said.append(str(event)))
    assert Nspawn(records).down(ctx) == []
    assert switch.read_text() == "1\n"
    assert [line for line in said if "slip-def456.json" in line] != []


def test_down_without_a_lab_does_nothing(tmp_path: Path) -> None:
    assert Nspawn(Records(tmp_path / "labs")).down(context(tmp_path)) == []
    assert Nspawn(Records(tmp_path / "labs")).status(context(tmp_path)) == ()


def test_down_refuses_a_record_of_another_state_folder(tmp_path: Path) -> None:
    records = Records(tmp_path / "labs")
    records.folder.mkdir()
    records.write(replace(LAB, name=lab_name(tmp_path / "mine"), state=tmp_path / "yours"))
    with pytest.raises(HostError, match="yours"):
        Nspawn(records).down(context(tmp_path / "mine"))
