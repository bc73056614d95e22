"""The pipeline with toy stages: order, hand-over, resume, failure, evidence, exit codes."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from slipway import pipeline
from slipway.artifacts import cache
from slipway.core.context import Context
from slipway.core.errors import (
    CommandError,
    DeployError,
    EnvironmentFault,
    GateFailed,
    HostError,
    SlipwayError,
    UsageError,
)
from slipway.core.events import Event, Note, ProgressStarted, StageFinished, StageStarted
from slipway.core.evidence import MISSING, Reading
from slipway.core.schema import Settings
from slipway.core.stage import name_of, needs, produces
from slipway.core.state import KEPT_RUNS, State
from slipway.core.types import MADE_BY, Cluster, ExportedModel, Hosts, ImageRef, Outcome, Proof

INFRA = Path(pipeline.__file__).parent


def stage(name: str, **members: Any) -> Any:
    """A toy stage that lives, as far as the pipeline can tell, in slipway.<name>."""
    kind = type(
        name.title(),
        (),
        {"title": name, "plan": lambda self, ctx: [], "__module__": f"slipway.{name}.stage", **members},
    )
    return kind()


@dataclass
class Diary:
    events: list[Event] = field(default_factory=list)
    did: list[str] = field(default_factory=list)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def ctx(tmp_path: Path, diary: Diary) -> Context:
    state = State(tmp_path / ".slipway")
    return Context(state, state.new_run(), tmp_path, emit=diary.events.append)


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


def failing_stage(
    name: str, error: BaseException, *, needs: type = Settings, makes: type = int, **members: Any
) -> Any:
    def run(self: Any, ctx: Context, named: Any) -> Any:
        raise error

    run.__annotations__ |= {"named": needs, "return": Outcome[makes]}  # type: ignore[valid-type]  # it is one
    return stage(name, run=run, **members)


def never(name: str, *, needs: type, **members: Any) -> Any:
    """A stage that must not run."""
    return failing_stage(name, AssertionError(f"{name} was run"), needs=needs, **members)


def go(ctx: Context, *stages: Any, **options: Any) -> pipeline.Ended:
    return pipeline.run(ctx, Settings(), stages=stages, **options)


def reported(ctx: Context) -> list[str]:
    """The stages that the run's report tells of."""
    document = json.loads((ctx.state.runs / "latest" / "run.json").read_text())
    return [stage["name"] for stage in document["stages"]]


def test_values_go_from_stage_to_stage(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, hosts_stage(diary), cluster_stage(diary))
    assert diary.did == ["hosts", "provision nspawn"]
    assert ended.exit_code == 0
    assert [(r.name, r.status, r.changed) for r in ended.run.results] == [
        ("hosts", "changed", 1),
        ("provision", "unchanged", 0),
    ]
    assert reported(ctx) == ["hosts", "provision"]
    assert ended.run.values.cluster is not None
    assert ctx.state.kept(Hosts) == Hosts("nspawn", ())
    assert (ctx.state.hosts / "hosts.json").stat().st_mode & 0o777 == 0o600


def test_from_takes_earlier_values_from_the_last_run(ctx: Context, diary: Diary) -> None:
    go(ctx, hosts_stage(diary), cluster_stage(diary))
    diary.did.clear()
    ended = go(ctx, hosts_stage(diary), cluster_stage(diary), first="provision")
    assert diary.did == ["provision nspawn"]
    assert ended.run.results[0].status == "not_run"
    assert ended.run.results[0].reason == "taken from the last run"


def test_from_without_an_earlier_value_says_what_to_do(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, hosts_stage(diary), cluster_stage(diary), first="provision")
    assert ended.exit_code == 2
    assert "provision needs what hosts makes" in ended.run.results[1].reason
    assert "slipway up --from hosts" in ended.run.results[1].reason


def test_an_unknown_stage_is_refused(ctx: Context, diary: Diary) -> None:
    with pytest.raises(UsageError, match="no such stage: deplpy"):
        go(ctx, hosts_stage(diary), first="deplpy")
    with pytest.raises(UsageError, match="provision comes after hosts"):
        go(ctx, hosts_stage(diary), cluster_stage(diary), first="provision", last="hosts")


def test_last_ends_the_run_early(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, hosts_stage(diary), cluster_stage(diary), last="hosts")
    assert diary.did == ["hosts"]
    assert ended.exit_code == 0
    assert ended.run.results[1].reason == "not asked for"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HostError("no answer"), 3),
        (DeployError("no pods"), 6),
        (CommandError(("docker",), 1, "no"), 4),  # no code of its own: that of the stage
        (CommandError(("docker",), 1, "write: no space left on device"), 3),
        (OSError(28, "No space left on device"), 3),
        (ConnectionResetError(104, "Connection reset by peer"), 3),
        (RuntimeError("bug"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_failure_ends_the_chain_with_its_code_and_a_report(
    ctx: Context, diary: Diary, error: BaseException, code: int
) -> None:
    ended = go(
        ctx,
        hosts_stage(diary),
        failing_stage("provision", error, needs=Hosts, makes=Cluster),
        never("model", needs=Cluster),
    )
    assert ended.exit_code == code
    assert [r.status for r in ended.run.results] == ["changed", "failed", "not_run"]
    why = "the run was interrupted" if code == 130 else "provision failed"
    assert ended.run.results[2].reason == why
    assert reported(ctx) == ["hosts", "provision", "model"]
    assert ended.error is not None


def test_a_bug_keeps_its_traceback_in_a_file(ctx: Context, diary: Diary) -> None:
    ended = go(ctx, failing_stage("hosts", RuntimeError("surprise")))
    (file,) = ended.run.results[0].evidence
    assert "RuntimeError: surprise" in Path(file).read_text()
    assert "bug in slipway" in ended.error.action  # type: ignore[union-attr]  # it ended with one


def test_a_full_disk_keeps_no_handler_from_its_end(
    ctx: Context, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traceback, evidence, report and the link to it: none can be written, and each is tried."""

    def refuse(*_: object, **__: object) -> Any:
        raise OSError(28, "No space left on device")

    for name in ("write_text", "symlink_to", "mkdir"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    ended = go(ctx, failing_stage("provision", RuntimeError("bug")))
    assert ended.exit_code == 4
    assert ended.error is not None
    assert ended.error.what == "provision ended in an unexpected RuntimeError: bug"
    assert ended.error.evidence == ()


def test_a_failed_gate_keeps_its_proof(ctx: Context, diary: Diary) -> None:
    proof = Proof(False, "s", "t", 1, 1, 0, 0, None, None, None, (), ())
    ended = go(ctx, failing_stage("smoke", GateFailed("no", value=proof)))
    assert ended.exit_code == 1
    assert ended.run.values.proof == proof


def test_evidence_comes_from_every_stage_that_ran_and_hides_no_error(ctx: Context, diary: Diary) -> None:
    def collect(name: str) -> Any:
        return lambda self, ctx: [Reading(f"{name}.log", lambda seconds: f"{name} says why")]

    def stuck(self: Any, ctx: Context) -> list[Reading]:
        raise OSError("no answer")

    ended = go(
        ctx,
        hosts_stage(diary, collect=collect("hosts")),
        cluster_stage(diary, collect=stuck),
        failing_stage("image", DeployError("first"), needs=Cluster, makes=ImageRef, collect=collect("image")),
        never("deploy", needs=ImageRef, collect=collect("deploy")),
    )
    assert diary.did == ["hosts", "provision nspawn"]
    failed = ended.run.results[2]
    assert {Path(file).name for file in failed.evidence} == {"hosts.log", "image.log", MISSING}
    assert (ctx.run / "evidence" / MISSING).read_text() == "evidence of provision: no answer\n"
    assert failed.reason == "first"
    assert failed.evidence_seconds > 0
    assert any(isinstance(e, ProgressStarted) and e.label == "collecting evidence" for e in diary.events)
    notes = [event.text for event in diary.events if isinstance(event, Note)]
    assert notes[-1].startswith("evidence: 3 files in ")
    assert notes[-1].endswith(" s, 1 missing: evidence of provision: no answer (missing.txt)")
    assert ended.exit_code == 6


def test_what_the_user_brings_along_is_not_run_but_handed_on(ctx: Context, diary: Diary) -> None:
    def provided(self: Any, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        return Outcome(Hosts("ssh", ()), 0, "yours")

    ended = go(
        ctx,
        hosts_stage(diary, should_run=lambda self, settings: "you have hosts", provided=provided),
        cluster_stage(diary),
    )
    assert diary.did == ["provision ssh"]
    assert (ended.run.results[0].status, ended.run.results[0].reason) == ("not_run", "you have hosts: yours")
    assert not any(isinstance(e, StageStarted) and e.name == "hosts" for e in diary.events)


def test_each_stage_says_how_it_ended(ctx: Context, diary: Diary) -> None:
    go(ctx, hosts_stage(diary))
    ends = [event for event in diary.events if isinstance(event, StageFinished)]
    assert [(end.name, end.status, end.summary) for end in ends] == [("hosts", "changed", "made")]


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


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (HostError("stuck"), 3),
        (PermissionError(1, "Operation not permitted", "stuck"), 3),
        (OSError(28, "No space left on device"), 3),
        (KeyError("stuck"), None),
    ],
)
def test_down_tries_everything_and_keeps_the_state_when_something_fails(
    ctx: Context, diary: Diary, failure: Exception, code: int | None
) -> None:
    def broken(self: Any, ctx: Context, settings: Settings) -> list[str]:
        raise failure

    removed: list[str] = []

    def hosts_remove(self: Any, ctx: Context, settings: Settings) -> list[str]:
        removed.append("hosts")
        return []

    ctx.state.kubeconfig.write_text("x")
    with pytest.raises(SlipwayError) as raised:
        pipeline.down(
            ctx,
            Settings(),
            stages=(hosts_stage(diary, remove=hosts_remove), cluster_stage(diary, remove=broken)),
        )
    assert raised.value.exit_code == code
    assert removed == ["hosts"]
    assert ctx.state.kubeconfig.exists()


def test_what_the_user_brings_along_is_there_for_a_later_stage_too(ctx: Context, diary: Diary) -> None:
    """`slipway deploy` in a fresh state folder, on a cluster that the settings name."""

    def provided(self: Any, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        return Outcome(Hosts("ssh", ()), 0, "yours")

    brought = hosts_stage(diary, should_run=lambda self, settings: "you have hosts", provided=provided)
    ended = go(ctx, brought, cluster_stage(diary), first="provision")
    assert (diary.did, ended.exit_code) == (["provision ssh"], 0)


def test_a_stage_that_runs_alone_has_the_evidence_of_those_it_builds_on(ctx: Context, diary: Diary) -> None:
    def collect(self: Any, ctx: Context) -> list[Reading]:
        return [Reading("hosts.log", lambda seconds: "why")]

    stages = (hosts_stage(diary, collect=collect), failing_stage("provision", HostError("no")))
    ctx.state.keep(Hosts("nspawn", ()))
    ended = go(ctx, *stages, first="provision")
    assert [Path(file).name for file in ended.run.results[1].evidence] == ["hosts.log"]


def test_latest_leads_to_a_run_once_its_report_is_there(ctx: Context, diary: Diary) -> None:
    go(ctx, hosts_stage(diary))
    assert ctx.state.last_run == ctx.run
    begun = ctx.state.new_run()
    assert ctx.state.last_run == ctx.run
    go(replace(ctx, run=begun), hosts_stage(diary))
    assert ctx.state.last_run == begun


def test_only_the_newest_runs_are_kept(ctx: Context) -> None:
    runs = [ctx.state.new_run() for _ in range(KEPT_RUNS + 3)]
    ctx.state.close_run(runs[-1])
    left = {path for path in ctx.state.runs.iterdir() if not path.is_symlink()}
    assert len(left) == KEPT_RUNS
    assert runs[-1] in left


# Several models: each goes through what lies behind the cluster by itself.

TWO = Settings.model_validate({"models": {"a": {}, "b": {"model": {"epochs": 7}}}})


def model_stage(diary: Diary, **fails: BaseException) -> Any:
    """A stage that each model has for itself, and fails for those that are named."""

    def run(self: Any, ctx: Context, settings: Settings, cluster: Cluster) -> Outcome[ExportedModel]:
        diary.did.append(f"model {settings.model.name} {settings.model.epochs}")
        if settings.model.name in fails:
            raise fails[settings.model.name]
        made = ExportedModel(Path("m"), settings.model.name, 1, "00", Path("r"))
        return Outcome(made, 1, f"made {settings.model.name}")

    def plan(self: Any, ctx: Context, settings: Settings, cluster: Cluster | None) -> list[str]:
        return [f"make {settings.model.name}"]

    def remove(self: Any, ctx: Context, settings: Settings) -> list[str]:
        return [f"model {ctx.state.model or 'of a single one'}, {settings.model.epochs} epochs"]

    def collect(self: Any, ctx: Context) -> list[Reading]:
        return [Reading("model.log", lambda seconds: f"{ctx.state.model} says why")]

    return stage("model", run=run, plan=plan, remove=remove, collect=collect)


def proof_stage(diary: Diary, left: tuple[str, ...] = ()) -> Any:
    """The last stage, with models of earlier settings that are still there."""

    class Away:
        title = "Take away"
        __module__ = "slipway.smoke.away"

        def run(self, ctx: Context, cluster: Cluster) -> Outcome[None]:
            diary.did.append(f"take away {ctx.state.model}")
            return Outcome(None, 3, "gone")

        def plan(self, ctx: Context) -> list[str]:
            return [f"take away {ctx.state.model}"]

    def run(self: Any, ctx: Context, model: ExportedModel) -> Outcome[Proof]:
        diary.did.append(f"prove {model.name}")
        return Outcome(Proof(True, model.name, "t", 1, 0, 0, 0, None, None, None, (), ()), 0, "proved")

    def what_is_left(self: Any, ctx: Context, settings: Settings) -> Any:
        return [(name, Away()) for name in left]

    return stage("smoke", run=run, left=what_is_left)


def chain(diary: Diary, *left: str, **fails: BaseException) -> tuple[Any, ...]:
    return (hosts_stage(diary), cluster_stage(diary), model_stage(diary, **fails), proof_stage(diary, left))


def labels(ended: pipeline.Ended, *statuses: str) -> list[str]:
    return [result.label for result in ended.run.results if result.status in statuses]


def test_each_model_goes_through_the_stages_behind_the_cluster(ctx: Context, diary: Diary) -> None:
    ended = pipeline.run(ctx, TWO, stages=chain(diary))
    assert diary.did[:3] == ["hosts", "provision nspawn", "model a 50"]
    assert sorted(diary.did[3:]) == ["model b 7", "prove a", "prove b"]
    assert (ended.exit_code, ended.run.ok) == (0, True)
    assert [result.label for result in ended.run.results] == [
        *("hosts", "provision", "model a", "smoke a", "model b", "smoke b"),
    ]
    values = ended.run.values
    assert values.hosts and values.cluster and values.model is None
    assert [(name, one.model.name, one.proof.server) for name, one in values.each] == [  # type: ignore[union-attr]
        ("a", "a", "a"),
        ("b", "b", "b"),
    ]
    assert ctx.state.kept(ExportedModel) is None
    assert ctx.state.of("b").kept(ExportedModel) == values.models["b"].model
    assert ctx.state.of("b").kept(Hosts) == values.hosts  # there is one, however many models
    document = json.loads((ctx.run / "run.json").read_text())
    assert [stage.get("model") for stage in document["stages"]] == [None, None, "a", "a", "b", "b"]
    assert {name: told["proven"] for name, told in document["models"].items()} == {"a": True, "b": True}
    ends = {event.name for event in diary.events if isinstance(event, StageFinished)}
    assert {"model a", "smoke a", "model b", "smoke b"} < ends


def test_a_model_that_fails_keeps_no_other_from_its_proof(ctx: Context, diary: Diary) -> None:
    ended = pipeline.run(ctx, TWO, stages=chain(diary, "c", a=DeployError("no pods")))
    assert diary.did[2:] == ["model a 50", "model b 7", "prove b"]
    assert (ended.exit_code, ended.error.what) == (6, "no pods")  # type: ignore[union-attr]
    assert labels(ended, "failed") == ["model a"]
    # nothing is taken away while something is wrong
    assert labels(ended, "not_run") == ["smoke a", "smoke c"]
    both = pipeline.run(ctx, TWO, stages=chain(diary, a=DeployError("no pods"), b=HostError("no answer")))
    assert (both.exit_code, [error.what for error in both.errors]) == (6, ["no pods", "no answer"])
    (failed,) = [result for result in ended.run.results if result.status == "failed"]
    assert [Path(file).read_text() for file in failed.evidence] == ["a says why"]
    assert all(Path(file).is_relative_to(ctx.run / "models" / "a") for file in failed.evidence)


def test_ctrl_c_ends_the_run_of_every_model(ctx: Context, diary: Diary) -> None:
    ended = pipeline.run(ctx, TWO, stages=chain(diary, a=KeyboardInterrupt()))
    assert diary.did[2:] == ["model a 50"]
    assert ended.exit_code == 130
    assert labels(ended, "not_run") == ["smoke a", "model b", "smoke b"]


def test_what_fails_before_the_models_is_told_once(ctx: Context, diary: Diary) -> None:
    def no_cluster(self: Any, ctx: Context, settings: Settings) -> Outcome[Cluster]:
        raise HostError("no")

    broken = stage("provision", run=no_cluster)
    ended = pipeline.run(ctx, TWO, stages=(hosts_stage(diary), broken, *chain(diary)[2:]))
    assert diary.did == ["hosts"]
    assert labels(ended, "failed") == ["provision"]
    assert labels(ended, "not_run") == ["model a", "smoke a", "model b", "smoke b"]


def test_one_model_is_run_alone_and_nothing_is_taken_away(ctx: Context, diary: Diary) -> None:
    ended = pipeline.run(ctx, TWO, only="b", stages=chain(diary, "c"))
    assert diary.did[2:] == ["model b 7", "prove b"]
    assert list(ended.run.values.models) == ["b"]
    with pytest.raises(UsageError, match="there is no model c"):
        pipeline.run(ctx, TWO, only="c", stages=chain(diary))


def test_from_takes_each_models_own_value_of_the_last_run(ctx: Context, diary: Diary) -> None:
    pipeline.run(ctx, TWO, stages=chain(diary))
    diary.did.clear()
    ended = pipeline.run(ctx, TWO, first="smoke", stages=chain(diary))
    assert (sorted(diary.did), ended.exit_code) == (["prove a", "prove b"], 0)


def test_what_the_settings_no_longer_name_is_taken_away_at_the_end(ctx: Context, diary: Diary) -> None:
    ended = pipeline.run(ctx, TWO, stages=chain(diary, "c"))
    assert diary.did[-1] == "take away c"
    assert [(one.label, one.changed) for one in ended.run.results][-1] == ("smoke c", 3)
    diary.did.clear()
    pipeline.run(ctx, TWO, last="model", stages=chain(diary, "c"))
    assert "take away c" not in diary.did


def test_a_plan_tells_each_models_changes_and_what_would_go(ctx: Context, diary: Diary) -> None:
    assert pipeline.plan(ctx, TWO, stages=chain(diary, "c"))[2:] == [
        ("model", "a", ["make a"]),
        ("smoke", "a", []),
        ("model", "b", ["make b"]),
        ("smoke", "b", []),
        ("smoke", "c", ["take away c"]),
    ]


def test_a_plan_fetches_and_builds_nothing(
    ctx: Context, diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = replace(ctx, cache=tmp_path / "cache")

    def plan(self: Any, ctx: Context, settings: Settings) -> list[str]:
        cache.entry(
            ctx, "kubernetes-1.36.3-modules", "key", lambda folder: diary.did.append(f"build {folder}")
        )
        return []

    stages = chain(diary)
    monkeypatch.setattr(type(stages[1]), "plan", plan)
    assert pipeline.plan(ctx, Settings(), stages=stages)[1][2] == [
        "what changes is known once `slipway up` has got what it takes: kubernetes-1.36.3-modules is not in the cache"
    ]
    assert diary.did == []
    assert plan(None, ctx, Settings()) == [] and len(diary.did) == 1, "a run does build it"


def test_down_removes_every_model_of_which_something_is_kept(ctx: Context, diary: Diary) -> None:
    for name in ("b", "gone"):
        ctx.state.of(name).keep(ExportedModel(Path("m"), name, 1, "00", Path("r")))
    removed = pipeline.down(ctx, TWO, stages=chain(diary))
    assert removed == [
        "model of a single one, 50 epochs",
        "model b, 7 epochs",
        "model gone, 50 epochs",
        f"folder {ctx.state.by_model}",
    ]


def test_ready_is_asked_for_each_model(ctx: Context, diary: Diary) -> None:
    asked: list[str] = []

    def ready(self: Any, settings: Settings) -> None:
        asked.append(settings.model.name)

    toys = (hosts_stage(diary), never("model", needs=Hosts, ready=ready))
    pipeline.require_ready(TWO, stages=toys)
    pipeline.require_ready(TWO, only="b", stages=toys)
    assert asked == ["a", "b", "b"]


# The real chain.


def test_the_folder_listing_reads_as_the_chain() -> None:
    packages = {path.parent.name for path in INFRA.glob("*/stage.py")} - {"core"}
    assert packages == {name_of(stage) for stage in pipeline.STAGES}


def test_each_value_a_stage_names_is_made_by_an_earlier_one() -> None:
    made: set[type] = {Settings}
    for each in pipeline.STAGES:
        for parameter, (kind, _) in needs(each).items():
            assert kind in made, f"{name_of(each)} names {parameter}: {kind}, which nothing makes before it"
        made.add(produces(each))


def test_each_value_is_told_to_come_from_the_stage_that_makes_it() -> None:
    assert {produces(each): name_of(each) for each in pipeline.STAGES} == MADE_BY


def test_a_plan_asks_for_nothing_that_the_stage_itself_does_not() -> None:
    for each in pipeline.STAGES:
        run, plan = needs(each), needs(each, "plan")
        assert plan.keys() <= run.keys(), name_of(each)
        assert all(optional or kind is Settings for kind, optional in plan.values()), name_of(each)


def test_every_stage_keeps_the_contract_and_no_state() -> None:
    for each in pipeline.STAGES:
        assert each.title[0].isupper()
        assert not each.title.endswith(".")
        assert typing.get_type_hints(type(each).run)["ctx"] is Context
        # what it is given when the chain is put together is not its to change
        frozen = dataclasses.is_dataclass(each) and each.__dataclass_params__.frozen
        assert frozen or vars(each) == {}, f"{name_of(each)} keeps something between calls"
        lines = (INFRA / name_of(each) / "stage.py").read_text().count("\n")
        assert lines <= 200, f"{name_of(each)} has {lines} lines: a stage is thin"


def test_the_recipe_fits_on_a_screen_or_two() -> None:
    assert (INFRA / "pipeline.py").read_text().count("\n") < 200


def test_what_a_stage_lacks_is_told_before_the_first_one_runs(ctx: Context, diary: Diary) -> None:
    def ready(self: Any, settings: Settings) -> None:
        raise EnvironmentFault("the cluster's tools are not installed")

    chain = (hosts_stage(diary), cluster_stage(diary, ready=ready))
    with pytest.raises(EnvironmentFault, match="not installed"):
        pipeline.require_ready(Settings(), stages=chain)
    pipeline.require_ready(Settings(), last="hosts", stages=chain)
    brought = (
        hosts_stage(diary),
        cluster_stage(diary, ready=ready, should_run=lambda self, settings: "brought"),
    )
    pipeline.require_ready(Settings(), stages=brought)
    assert diary.did == []
