"""What each verb does to the folders of runs, and who may touch them: one per report, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway import pipeline
from slipway.clients.kubectl import Kubectl
from slipway.core.errors import HostError
from slipway.core.lock import held
from slipway.core.schema import Settings
from slipway.core.state import KEPT_RUNS, State
from slipway.core.types import Cluster, Host, Hosts, ImageRef, Outcome, Result, Run, Values
from slipway.deploy import declaration
from slipway.deploy import stage as deploy_stage
from slipway.provision import stage as provision_stage
from slipway.report.write import write
from slipway.status import certificates, now

Slipway = Callable[..., int]
CLUSTER = Cluster(Path("kubeconfig"), Path("kubectl"), "https://192.0.2.1:6443", (), None)
IMAGE = ImageRef("reg:5000/mnist", "sha256:ab", "1", "portable", "mnist", 1, "00")
MACHINE = Host("one", "192.0.2.1", "root", "ssh-ed25519 AAAA", ("control_plane",))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A state folder with one reported run in it, beside an empty working folder."""
    monkeypatch.chdir(tmp_path)
    state = State(tmp_path / ".slipway")
    run = state.new_run()
    write(run, Run(True, (Result("hosts", "unchanged", "", 1.0),), Values(), {}))
    state.close_run(run)
    return state


def runs(state: State) -> dict[str, float | str]:
    """Every file and link below the folder of runs, with what it is."""
    return {
        str(path.relative_to(state.runs)): str(path.readlink())
        if path.is_symlink()
        else path.stat().st_mtime_ns
        for path in sorted(state.runs.rglob("*"))
    }


class Idle:
    """A stage with nothing to do."""

    title = "Idle"
    __module__ = "slipway.hosts.stage"

    def run(self, ctx: object, settings: Settings) -> Outcome[Hosts]:
        return Outcome(Hosts("ssh", (MACHINE,)), 0, "idle")

    def plan(self, ctx: object, settings: Settings) -> list[str]:
        return ["make bridge"]


WITHOUT_A_REPORT = {
    "plan": 0,
    "status": 0,
    "preview": 0,
    "doctor": None,  # what this machine lacks decides
    "env": 0,
    "report": 0,
    "settings": 0,
    "render": 0,
    "destroy": 0,
    "hosts list": 0,
    "provision --check": 0,
    "provision --diff": 0,
    "provision --check --tags docker": 0,
    "provision --limit one": 0,
    "hosts down": 0,
    "down": 0,
}


@pytest.fixture
def idle(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder in which everything was made, and stages with nothing to do."""
    monkeypatch.setattr("slipway.clients.apt.own_options", lambda _proxy: {})
    monkeypatch.setattr("slipway.clients.apt.own_origins", dict)
    monkeypatch.setattr(pipeline, "STAGES", (Idle(),))
    monkeypatch.setattr(pipeline.run, "__kwdefaults__", {"first": "", "last": "", "stages": (Idle(),)})
    monkeypatch.setattr(pipeline.plan, "__kwdefaults__", {"stages": (Idle(),)})
    monkeypatch.setattr(pipeline.down, "__kwdefaults__", {"stages": ()})
    monkeypatch.setattr(provision_stage, "play", lambda ctx, *_rest, **_named: _played(ctx))
    monkeypatch.setattr(deploy_stage.Deploy, "plan", lambda *_: ["create Namespace serving"])
    monkeypatch.setattr(declaration, "render", lambda *_: [{"kind": "Deployment"}])
    monkeypatch.setattr(now, "_ask", lambda _question: [])
    monkeypatch.setattr(Kubectl, "get", lambda *_, **__: {"items": []})
    monkeypatch.setattr(certificates, "endings", lambda *_: ([], []))
    state.keep(Hosts("ssh", (MACHINE,)))
    state.keep(CLUSTER)
    state.keep(IMAGE)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("words", WITHOUT_A_REPORT)
def test_verbs_without_a_report_leave_the_runs_alone(words: str, state: State, slipway: Slipway) -> None:
    before = runs(state)
    assert slipway(*words.split()) == WITHOUT_A_REPORT[words] or WITHOUT_A_REPORT[words] is None
    assert runs(state) == before
    assert state.last_run == state.runs.resolve() / (state.runs / "latest").readlink()


# What each verb does while another run holds the state folder: look, or refuse; never write.
BESIDE_A_RUN = {
    **dict.fromkeys(
        ("up", "plan", "down", "preview", "destroy", "deploy", "smoke", "provision", "provision --check"), 3
    ),
    **dict.fromkeys(("hosts up", "hosts down", "model train", "model export", "image build"), 3),
    **dict.fromkeys(("model save a.h5", "model restore a.h5", "env"), 3),
    **dict.fromkeys(("status", "settings", "report", "render", "hosts list"), 0),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("words", BESIDE_A_RUN)
def test_nothing_is_written_beside_a_run(words: str, state: State, slipway: Slipway) -> None:
    with held(state, "up"):
        before = everything(state)
        assert slipway(*words.split()) == BESIDE_A_RUN[words]
        assert everything(state) == before


@pytest.mark.usefixtures("idle")
def test_env_tells_of_what_is_there_beside_a_run(state: State, slipway: Slipway) -> None:
    assert slipway("env") == 0
    with held(state, "up"):
        before = everything(state)
        assert slipway("env") == 0
        assert everything(state) == before


def everything(state: State) -> dict[str, object]:
    """Every file below the state folder, with its bytes."""
    return {str(path): path.read_bytes() for path in sorted(state.root.rglob("*")) if path.is_file()}


def _played(ctx: object) -> object:
    ctx.evidence("site-check.log").write_text("log")  # type: ignore[attr-defined]  # a Context

    class Played:
        hosts: dict[str, object] = {}  # noqa: RUF012  # a stand-in's

    return Played()


def test_twenty_refused_runs_beside_a_running_one_destroy_nothing_of_it(
    state: State, slipway: Slipway
) -> None:
    with held(state, "up"):
        running = state.new_run()
        (running / "slipway.log").write_text("at work")
        before = runs(state)
        for _ in range(KEPT_RUNS + 1):
            assert slipway("up") == 3
        assert runs(state) == before
        assert slipway("plan") == 3
        assert runs(state) == before
    assert (running / "slipway.log").read_text() == "at work"


def test_latest_leads_to_a_run_that_failed_too(
    state: State, slipway: Slipway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Outcome[Hosts]:
        raise HostError("no answer")

    monkeypatch.setattr(pipeline.run, "__kwdefaults__", {"first": "", "last": "", "stages": (Idle(),)})
    monkeypatch.setattr(Idle, "run", fail)
    Idle.run.__annotations__ = {"settings": Settings, "return": Outcome[Hosts]}
    first = state.last_run
    assert slipway("up") == 3
    assert state.last_run not in (None, first)
    document = json.loads((state.runs / "latest" / "run.json").read_text())
    assert [(stage["name"], stage["status"]) for stage in document["stages"]] == [("hosts", "failed")]


def test_there_are_no_hosts_after_hosts_down(
    state: State, slipway: Slipway, capsys: pytest.CaptureFixture[str]
) -> None:
    state.keep(Hosts("ssh", (MACHINE,)))
    assert slipway("hosts", "list") == 0
    assert "192.0.2.1" in capsys.readouterr().out
    assert slipway("hosts", "down") == 0
    capsys.readouterr()
    assert slipway("hosts", "list") == 0
    assert capsys.readouterr().out == ""
    assert slipway("hosts", "ssh", "one") == 2


def test_wrong_settings_touch_nothing(
    tmp_path: Path, slipway: Slipway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert slipway("up", "--set", "hosts.workers=-1") == 2
    assert list(tmp_path.iterdir()) == []
