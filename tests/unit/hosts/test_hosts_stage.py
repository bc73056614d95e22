from __future__ import annotations

from pathlib import Path

import pytest
from slipway import pipeline
from slipway.cli import app
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host, Hosts, Outcome
from slipway.hosts import base
from slipway.hosts import stage as hosts_stage
from slipway.hosts.nspawn import backend

READING = Reading("hosts/one.log", lambda seconds: "")
MACHINE = Host("one", "192.0.2.1", "root", "ssh-ed25519 AAAA", ("worker",))


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

    def collect(self, ctx: Context, known: Hosts | None) -> list[Reading]:
        self.asked.append(f"collect {known}")
        return [READING]

    def down(self, ctx: Context) -> list[str]:
        self.asked.append("down")
        return ["bridge"]


def test_the_stage_asks_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(hosts_stage, "backend", lambda settings, bakers: recorder)
    monkeypatch.setattr(hosts_stage, "made_here", lambda ctx: recorder)
    monkeypatch.setattr(hosts_stage, "every", lambda: (recorder,))
    ctx = Context(State(tmp_path), tmp_path, tmp_path)
    stage = hosts_stage.MakeHosts()
    assert stage.plan(ctx, Settings()) == ["make bridge"]
    assert stage.run(ctx, Settings()).summary == "unchanged"
    assert stage.collect(ctx) == [READING]
    assert hosts_stage.take_down(ctx) == ["bridge"]
    assert recorder.asked == ["plan", "up", "collect None", "down"]


def test_only_hosts_that_are_made_here_have_a_root_to_bake(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("all: {hosts: {one: {ansible_host: 192.0.2.1}}}")
    settings = Settings.model_validate({"hosts": {"backend": "ssh", "inventory": inventory}})
    with pytest.raises(UsageError, match=r"hosts.backend is ssh"):
        pipeline.HOSTS.bake(Context(State(tmp_path), tmp_path, tmp_path), settings)


def test_hosts_that_are_to_be_bare_have_no_root_to_bake(tmp_path: Path) -> None:
    settings = Settings.model_validate({"hosts": {"golden": False}})
    with pytest.raises(UsageError, match=r"hosts.golden is false"):
        pipeline.HOSTS.bake(Context(State(tmp_path), tmp_path, tmp_path), settings)


def test_an_existing_cluster_needs_no_hosts(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("")
    settings = Settings.model_validate({"cluster": {"kubeconfig": kubeconfig}})
    stage = hosts_stage.MakeHosts()
    assert str(kubeconfig) in stage.should_run(settings)
    assert stage.should_run(Settings()) == ""


@pytest.mark.parametrize("words", [["hosts", "down"], ["down"]])
@pytest.mark.parametrize("last", ["nspawn", "ssh"])
def test_going_down_takes_the_lab_too_after_the_settings_went_from_nspawn_to_ssh(
    words: list[str],
    last: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(backend, "Nspawn", lambda **_: recorder)
    (tmp_path / "inventory.yml").write_text("all: {hosts: {one: {ansible_host: 192.0.2.1}}}")
    (tmp_path / "slipway.yaml").write_text("hosts: {backend: ssh, inventory: inventory.yml}")
    base.record(State(tmp_path / ".slipway"), Hosts(last, (MACHINE,)))  # whose `up` was the last one
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["slipway", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 0
    assert recorder.asked == ["down"]
    assert "bridge" in capsys.readouterr().out
    assert State(tmp_path / ".slipway").kept(Hosts) is None
