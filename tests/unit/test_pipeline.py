"""The pipeline with toy stages: order, hand-over, resume, failure, evidence, exit codes."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra import pipeline
from infra.core.context import Context
from infra.core.errors import CommandError, DeployError, GateFailed, HostError, UsageError
from infra.core.events import Event, StageFinished, StageStarted
from infra.core.schema import Settings
from infra.core.types import Cluster, Hosts, Outcome, Proof, Request, Run
from infra.settings import ReadSettings

INFRA = Path(pipeline.__file__).parent


def stage(name: str, **members: Any) -> Any:
    """A toy stage that lives, as far as the pipeline can tell, in infra.<name>."""
    kind = type(
        name.title(),
        (),
        {"title": name, "plan": lambda self, ctx: [], "__module__": f"infra.{name}", **members},
    )
    return kind()


@dataclass
class Diary:
    events: list[Event] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    reported: list[Run] = field(default_factory=list)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def ctx(tmp_path: Path, diary: Diary) -> Context:
    return pipeline.new_context(None, tmp_path, diary.events.append)


def hosts_stage(diary: Diary, changed: int = 1, **members: Any) -> Any:
    def run(self: Any, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        diary.did.append("hosts")
        return Outcome(Hosts("nspawn", ()), changed, "made")

    return stage("hosts", run=run, **members)


def cluster_stage(diary: Diary, **members: Any) -> Any:
    def run(self: Any, ctx: Context, settings: Settings, hosts: Hosts) -> Outcome[Cluster]:
        diary.did.append(f"provision {hosts.backend}")
        return Outcome(Cluster(Path("k"), Path("b"), "https://x", (), None), 0, "same")

    return stage("provision", run=run, **members)


def failing_stage(name: str, error: BaseException, **members: Any) -> Any:
    def run(self: Any, ctx: Context, settings: Settings) -> Outcome[int]:
        raise error

    return stage(name, run=run, **members)


def report_stage(diary: Diary) -> Any:
    def run(self: Any, ctx: Context, run: Run) -> Outcome[int]:
        diary.reported.append(run)
        return Outcome(0, 0, "")

    return stage("report", run=run)


def go(ctx: Context, diary: Diary, *stages: Any, **options: Any) -> pipeline.Ended:
    return pipeline.run(ctx, Request(None), stages=(ReadSettings(), *stages, report_stage(diary)), **options)


def test_values_go_from_stage_to_stage(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, diary, hosts_stage(diary), cluster_stage(diary))
    assert diary.did == ["hosts", "provision nspawn"]
    assert ended.exit_code == 0
    assert [(r.name, r.status, r.changed) for r in ended.run.results] == [
        ("settings", "unchanged", 0),
        ("hosts", "changed", 1),
        ("provision", "unchanged", 0),
    ]
    assert diary.reported == [ended.run]
    assert isinstance(ended.run.values["provision"], Cluster)
    assert (ctx.state.values / "hosts.json").stat().st_mode & 0o777 == 0o600


def test_from_takes_earlier_values_from_the_last_run(ctx: Context, diary: Diary) -> None:
    go(ctx, diary, hosts_stage(diary), cluster_stage(diary))
    diary.did.clear()
    ended = go(ctx, diary, hosts_stage(diary), cluster_stage(diary), first="provision")
    assert diary.did == ["provision nspawn"]
    assert ended.run.results[1].status == "not_run"
    assert ended.run.results[1].reason == "taken from the last run"


def test_from_without_an_earlier_value_says_what_to_do(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, diary, hosts_stage(diary), cluster_stage(diary), first="provision")
    assert ended.exit_code == 2
    assert "provision needs what hosts makes" in ended.run.results[2].reason
    assert "slipway up --from hosts" in ended.run.results[2].reason


def test_an_unknown_stage_is_refused(ctx: Context, diary: Diary) -> None:
    with pytest.raises(UsageError, match="no such stage: deplpy"):
        go(ctx, diary, hosts_stage(diary), first="deplpy")
    with pytest.raises(UsageError, match="provision comes after hosts"):
        go(ctx, diary, hosts_stage(diary), cluster_stage(diary), first="provision", last="hosts")


def test_last_ends_the_run_early(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, diary, hosts_stage(diary), cluster_stage(diary), last="hosts")
    assert diary.did == ["hosts"]
    assert ended.exit_code == 0
    assert ended.run.results[2].reason == "not asked for"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HostError("no answer"), 3),
        (DeployError("no pods"), 6),
        (CommandError(("docker",), 1, "no"), 4),  # no code of its own: that of the stage
        (RuntimeError("bug"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_failure_ends_the_chain_with_its_code_and_a_report(
    ctx: Context, diary: Diary, error: BaseException, code: int
) -> None:
    ended = go(
        ctx,
        diary,
        hosts_stage(diary),
        failing_stage("provision", error),
        stage("model", run=ReadSettings.run),
    )
    assert ended.exit_code == code
    assert [r.status for r in ended.run.results] == ["unchanged", "changed", "failed", "not_run"]
    assert ended.run.results[3].reason == "an earlier stage failed"
    assert diary.reported == [ended.run]
    assert ended.error is not None


def test_a_bug_keeps_its_traceback_in_a_file(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, diary, failing_stage("hosts", RuntimeError("surprise")))
    (file,) = ended.run.results[1].evidence
    assert "RuntimeError: surprise" in Path(file).read_text()
    assert "bug in slipway" in ended.error.action  # type: ignore[union-attr]


def test_a_failed_gate_keeps_its_proof(ctx: Context, diary: Diary) -> None:
    proof = Proof(False, "s", "t", 1, 1, 0, 0, None, None, None, (), ())
    ended = go(ctx, diary, failing_stage("smoke", GateFailed("no", value=proof)))
    assert ended.exit_code == 1
    assert ended.run.values["smoke"] == proof


def test_evidence_comes_from_every_stage_that_ran_and_hides_no_error(ctx: Context, diary: Diary) -> None:
    def collect(name: str) -> Any:
        def inner(self: Any, ctx: Context) -> tuple[Path, ...]:
            diary.did.append(f"collect {name}")
            return (ctx.evidence(f"{name}.log"),)

        return inner

    def stuck(self: Any, ctx: Context) -> tuple[Path, ...]:
        raise OSError("no answer")

    ended = go(
        ctx,
        diary,
        hosts_stage(diary, collect=collect("hosts")),
        cluster_stage(diary, collect=stuck),
        failing_stage("image", DeployError("first"), collect=collect("image")),
        stage("deploy", run=ReadSettings.run, collect=collect("deploy")),
    )
    assert diary.did == ["hosts", "provision nspawn", "collect hosts", "collect image"]
    failed = ended.run.results[3]
    assert [Path(file).name for file in failed.evidence] == ["hosts.log", "image.log"]
    assert failed.reason.startswith("first")
    assert "collecting evidence of provision: no answer" in failed.reason
    assert ended.exit_code == 6


def test_what_the_user_brings_along_is_not_run_but_handed_on(ctx: Context, diary: Diary) -> None:
    def provided(self: Any, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        return Outcome(Hosts("ssh", ()), 0, "yours")

    ended = go(
        ctx,
        diary,
        hosts_stage(diary, should_run=lambda self, settings: "you have hosts", provided=provided),
        cluster_stage(diary),
    )
    assert diary.did == ["provision ssh"]
    assert (ended.run.results[1].status, ended.run.results[1].reason) == ("not_run", "you have hosts: yours")
    assert not any(isinstance(e, StageStarted) and e.name == "hosts" for e in diary.events)


def test_bad_settings_stop_before_anything_is_touched(ctx: Context, diary: Diary) -> None:
    ended = pipeline.run(
        ctx,
        Request(None, {}, ("hosts.workers=-1",)),
        stages=(ReadSettings(), hosts_stage(diary), report_stage(diary)),
    )
    assert (ended.exit_code, diary.did) == (2, [])


def test_each_stage_says_how_it_ended(ctx: Context, diary: Diary) -> None:
    go(ctx, diary, hosts_stage(diary))
    ends = [event for event in diary.events if isinstance(event, StageFinished)]
    assert [(end.name, end.status, end.summary) for end in ends][1:] == [("hosts", "changed", "made")]


def test_down_removes_last_to_first_and_keeps_reports(ctx: Context, diary: Diary) -> None:
    def remove(name: str) -> Any:
        return lambda self, ctx, settings: [name]

    ctx.state.kubeconfig.write_text("x")
    ctx.state.models.mkdir()
    stages = (
        hosts_stage(diary, remove=remove("three hosts")),
        cluster_stage(diary, remove=remove("a cluster")),
    )
    removed = pipeline.down(ctx, Settings(), stages=stages)
    assert removed[:2] == ["a cluster", "three hosts"]
    assert sorted(path.name for path in ctx.state.root.iterdir()) == ["runs"]
    assert pipeline.down(ctx, Settings(), stages=()) == []


def test_down_tries_everything_and_keeps_the_state_when_something_fails(ctx: Context, diary: Diary) -> None:
    def broken(self: Any, ctx: Context, settings: Settings) -> list[str]:
        raise HostError("stuck")

    removed: list[str] = []

    def hosts_remove(self: Any, ctx: Context, settings: Settings) -> list[str]:
        removed.append("hosts")
        return []

    ctx.state.kubeconfig.write_text("x")
    with pytest.raises(HostError, match="stuck"):
        pipeline.down(
            ctx,
            Settings(),
            stages=(hosts_stage(diary, remove=hosts_remove), cluster_stage(diary, remove=broken)),
        )
    assert removed == ["hosts"]
    assert ctx.state.kubeconfig.exists()


def test_runs_are_kept_and_latest_points_at_the_newest(tmp_path: Path) -> None:
    contexts = [
        pipeline.new_context(None, tmp_path, lambda event: None) for _ in range(pipeline.KEPT_RUNS + 3)
    ]
    state = contexts[-1].state
    assert (state.runs / "latest").resolve() == contexts[-1].run
    assert len([p for p in state.runs.iterdir() if not p.is_symlink()]) == pipeline.KEPT_RUNS


# The real chain.


def test_the_folder_listing_reads_as_the_chain() -> None:
    modules = {path.stem for path in INFRA.glob("*.py")} - {"__init__", "cli", "pipeline"}
    assert modules == {pipeline.name_of(stage) for stage in pipeline.STAGES}


def test_each_value_a_stage_names_is_made_by_an_earlier_one() -> None:
    made: set[type] = {Request}
    for each in pipeline.STAGES[:-1]:
        for parameter, (kind, _) in pipeline.needs(each).items():
            assert kind in made, (
                f"{pipeline.name_of(each)} names {parameter}: {kind}, which nothing makes before it"
            )
        made.add(pipeline.produces(each))
    assert {kind for kind, _ in pipeline.needs(pipeline.STAGES[-1]).values()} == {Run}


def test_a_plan_asks_for_nothing_that_the_stage_itself_does_not() -> None:
    for each in pipeline.STAGES[:-1]:
        run = {kind for kind, _ in pipeline.needs(each).values()}
        plan = {kind for kind, _ in pipeline.needs(each, "plan").values()}
        assert plan <= run, pipeline.name_of(each)


def test_every_stage_keeps_the_contract() -> None:
    for each in pipeline.STAGES:
        assert each.title
        assert typing.get_type_hints(type(each).run)["ctx"] is Context
        lines = (INFRA / f"{pipeline.name_of(each)}.py").read_text().count("\n")
        assert lines <= 200, f"{pipeline.name_of(each)} has {lines} lines: a stage is thin"
