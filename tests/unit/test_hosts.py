from __future__ import annotations

from pathlib import Path

import pytest

from infra import hosts
from infra.core.context import Context
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Hosts, Outcome


class Recorder:
    """A backend that remembers what it was asked."""

    name = "nspawn"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        self.asked.append("plan")
        return ["make bridge"]

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        self.asked.append("up")
        return Outcome(Hosts("nspawn", ()), 0, "unchanged")

    def collect(self, ctx: Context, known: Hosts | None) -> tuple[Path, ...]:
        self.asked.append(f"collect {known}")
        return (Path("x"),)

    def down(self, ctx: Context) -> list[str]:
        self.asked.append("down")
        return ["bridge"]


def test_the_stage_asks_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(hosts, "backend", lambda settings: recorder)
    monkeypatch.setattr(hosts, "made_here", lambda ctx: recorder)
    ctx = Context(State(tmp_path), tmp_path, tmp_path)
    stage = hosts.MakeHosts()
    assert stage.plan(ctx, Settings()) == ["make bridge"]
    assert stage.run(ctx, Settings()).summary == "unchanged"
    assert stage.collect(ctx) == (Path("x"),)
    assert hosts.take_down(ctx) == ["bridge"]
    assert recorder.asked == ["plan", "up", "collect None", "down"]


def test_an_existing_cluster_needs_no_hosts(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("")
    settings = Settings.model_validate({"cluster": {"kubeconfig": kubeconfig}})
    stage = hosts.MakeHosts()
    assert str(kubeconfig) in stage.should_run(settings)
    assert stage.should_run(Settings()) == ""
    assert stage.provided(Context(State(tmp_path), tmp_path, tmp_path), settings).value.hosts == ()
