"""Stages side by side, with toy stages that wait for each other: no test here sleeps."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, default_int_handler, signal
from typing import Any

import pytest
from slipway.core import interrupt, scheduler
from slipway.core.context import Context
from slipway.core.errors import DeployError, HostError
from slipway.core.events import Detail, Event, Note, ProgressAdvanced, StageFinished
from slipway.core.evidence import Reading
from slipway.core.order import LATER, Task
from slipway.core.scheduler import Scheduler
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, ExportedModel, Hosts, ImageRef, Outcome

LONG = 20  # seconds; never waited for where all is well
HOSTS = Hosts("nspawn", ())
CLUSTER = Cluster(Path("k"), Path("b"), "https://x", (), None)
MODEL = ExportedModel(Path("m"), "mnist", 1, "00", Path("r"))
IMAGE = ImageRef("reg/m", "sha256:ab", "1", "portable", "mnist", 1, "00")
VALUES = {Hosts: HOSTS, Cluster: CLUSTER, ExportedModel: MODEL, ImageRef: IMAGE}
NAMES = {Hosts: "hosts", Cluster: "provision", ExportedModel: "model", ImageRef: "image"}


@dataclass
class Scene:
    """What toy stages say of themselves, and the moments at which they begin and may end."""

    ctx: Context
    events: list[Event] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    begun: dict[str, threading.Event] = field(default_factory=dict)

    def stage(
        self, makes: type, *named: type, act: Callable[[], object] = lambda: None, **members: Any
    ) -> Any:
        """A stage that names these values and, after `act`, hands on one of type `makes`."""
        name = NAMES[makes]

        def run(_self: Any, ctx: Context, settings: Settings, **values: object) -> Any:
            label = " ".join(filter(None, (name, ctx.state.model)))
            self.did.append(label)
            self.has_begun(label).set()
            assert all(isinstance(value, kind) for value, kind in zip(values.values(), named, strict=True))
            act()
            return Outcome(VALUES[makes], 1, "made")

        run.__annotations__ = {
            "ctx": Context,
            "settings": Settings,
            **{f"value{number}": kind for number, kind in enumerate(named)},
            "return": Outcome[makes],  # type: ignore[valid-type]  # it is one
        }
        return type(
            name.title(), (), {"title": name, "__module__": f"slipway.{name}.stage", "run": run} | members
        )()

    def has_begun(self, label: str) -> threading.Event:
        return self.begun.setdefault(label, threading.Event())

    def task(self, stage: Any, model: str = "", skip: str = "") -> Task:
        return Task(stage, self.ctx.of(model), Settings(), skip)

    def go(self, *stages: Any, at_once: int = 2) -> Scheduler:
        made = Scheduler(at_once)
        made.go([one if isinstance(one, Task) else self.task(one) for one in stages])
        assert [
            one.name for one in threading.enumerate() if one.name.startswith(("run ", "prepare ", "look "))
        ] == []
        return made


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    events: list[Event] = []
    before = signal(SIGINT, default_int_handler)  # what started these tests may have it ignored
    yield Scene(Context(State(tmp_path), tmp_path / "run", tmp_path, emit=events.append), events)
    signal(SIGINT, before)


def statuses(made: Scheduler) -> dict[str, str]:
    return {result.label: result.status for result in made.results}


def waits_for(*moments: threading.Event) -> Callable[[], None]:
    def act() -> None:
        for moment in moments:
            assert moment.wait(LONG)

    return act


def raises(error: BaseException, *moments: threading.Event) -> Callable[[], None]:
    def act() -> None:
        waits_for(*moments)()
        raise error

    return act


def until_told() -> None:
    """What a stage does that ends only when it is told to."""
    interrupt.pause(LONG)
    raise AssertionError("nobody told it to end")


def test_two_stages_are_truly_under_way_at_once_and_a_third_waits_for_what_it_names(scene: Scene) -> None:
    meet = threading.Barrier(2, timeout=LONG)
    made = scene.go(
        scene.stage(Hosts, act=meet.wait),
        scene.stage(ExportedModel, act=meet.wait),
        scene.stage(ImageRef, Hosts, ExportedModel),
    )
    assert sorted(scene.did[:2]) == ["hosts", "model"]
    assert scene.did[2:] == ["image"]
    assert set(statuses(made).values()) == {"changed"}
    assert made.values().image == IMAGE


def test_no_more_run_at_once_than_may_and_the_first_that_can_is_next(scene: Scene) -> None:
    made = scene.go(scene.stage(Hosts), scene.stage(Cluster, Hosts), scene.stage(ExportedModel), at_once=1)
    assert scene.did == ["hosts", "provision", "model"]
    assert [result.started for result in made.results] == sorted(result.started for result in made.results)


def test_results_stay_in_the_order_of_stages_whatever_ended_first(scene: Scene) -> None:
    model_ended = threading.Event()

    def ended(event: Event) -> None:
        if isinstance(event, StageFinished) and event.name == "model":
            model_ended.set()

    scene.ctx = Context(scene.ctx.state, scene.ctx.run, scene.ctx.project, emit=ended)
    made = scene.go(
        scene.stage(Hosts, act=waits_for(model_ended)),
        scene.stage(Cluster, Hosts),
        scene.stage(ExportedModel),
    )
    assert list(made.steps) == ["model", "hosts", "provision"]
    assert [result.label for result in made.results] == ["hosts", "provision", "model"]
    assert [result.after for result in made.results] == [(), ("hosts",), ()]


def test_what_measures_runs_alone(scene: Scene) -> None:
    meet = threading.Barrier(2, timeout=LONG)
    scene.go(
        scene.stage(Hosts, act=meet.wait),
        scene.stage(ExportedModel, alone=True),
        scene.stage(Cluster, act=meet.wait),
    )
    assert scene.did[2] == "model"


def test_nothing_is_begun_beside_what_measures(scene: Scene) -> None:
    def measures() -> None:
        assert not scene.has_begun("hosts").wait(0.05)

    made = scene.go(scene.stage(ExportedModel, act=measures, alone=True), scene.stage(Hosts))
    assert set(statuses(made).values()) == {"changed"}


def test_a_stage_is_not_run_beside_itself_but_beside_another_models_next(scene: Scene) -> None:
    of_a, other = scene.has_begun("image a"), scene.has_begun("model b")
    model, image = scene.stage(ExportedModel), scene.stage(ImageRef, ExportedModel, act=waits_for(other))
    made = scene.go(*(scene.task(one, name) for name in ("a", "b") for one in (model, image)))
    assert of_a.is_set()
    assert scene.did[:2] == ["model a", "image a"] or scene.did[:2] == ["model a", "model b"]
    assert set(statuses(made).values()) == {"changed"}


def test_a_failure_stops_what_depends_on_it_and_lets_the_rest_end(scene: Scene) -> None:
    failed = threading.Event()

    def told(event: Event) -> None:
        scene.events.append(event)
        if isinstance(event, StageFinished) and event.status == "failed":
            failed.set()

    scene.ctx = Context(scene.ctx.state, scene.ctx.run, scene.ctx.project, emit=told)
    collect: dict[str, Any] = {"collect": lambda self, ctx: [Reading("model.log", lambda seconds: "why")]}
    made = scene.go(
        scene.stage(Hosts, act=raises(HostError("no answer"), scene.has_begun("model"))),
        scene.stage(Cluster, Hosts),
        scene.stage(ExportedModel, act=waits_for(failed), **collect),
        scene.stage(ImageRef, Cluster, ExportedModel),
    )
    assert statuses(made) == {
        "hosts": "failed",
        "provision": "not_run",
        "model": "changed",
        "image": "not_run",
    }
    assert [result.reason for result in made.results if result.status == "not_run"] == ["hosts failed"] * 2
    assert [step.error.what for step in made.failures if step.error] == ["no answer"]
    (evidence,) = made.results[0].evidence  # of the stage beside it too
    assert Path(evidence).read_text() == "why"


def test_a_second_failure_is_told_after_the_first(scene: Scene) -> None:
    failed = threading.Event()

    def told(event: Event) -> None:
        if isinstance(event, StageFinished) and event.name == "model":
            failed.set()

    scene.ctx = Context(scene.ctx.state, scene.ctx.run, scene.ctx.project, emit=told)
    made = scene.go(
        scene.stage(Hosts, act=raises(HostError("second"), failed)),
        scene.stage(ExportedModel, act=raises(DeployError("first"), scene.has_begun("hosts"))),
    )
    assert [step.error.what for step in made.failures if step.error] == ["first", "second"]
    assert [result.reason for result in made.results] == ["second", "first"]


@pytest.mark.parametrize(
    ("broken", "shared"), [(("a",), "changed"), (("a", "b"), "not_run")], ids=["one is left", "none is left"]
)
def test_what_all_models_share_is_made_while_one_of_them_is_left(
    scene: Scene, broken: tuple[str, ...], shared: str
) -> None:
    def model(name: str) -> Task:
        act = raises(DeployError("no")) if name in broken else lambda: None
        return scene.task(scene.stage(ExportedModel, act=act), name)

    made = scene.go(model("a"), model("b"), scene.stage(Cluster), at_once=1)
    assert statuses(made)["provision"] == shared
    assert statuses(made)["model b"] == ("failed" if "b" in broken else "changed")


def test_ctrl_c_ends_all_that_runs_and_begins_nothing_more(scene: Scene) -> None:
    def presses() -> None:
        waits_for(scene.has_begun("model"))()
        os.kill(os.getpid(), SIGINT)
        until_told()

    made = scene.go(
        scene.stage(Hosts, act=presses),
        scene.stage(Cluster, Hosts),
        scene.stage(ExportedModel, act=until_told),
    )
    assert statuses(made) == {"hosts": "failed", "provision": "not_run", "model": "failed"}
    assert [step.exit_code for step in made.failures] == [130, 130]
    assert made.results[1].reason == "the run was interrupted"


def test_a_signal_that_wakes_nobody_is_seen_soon(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes between Python's last look for signals and its wait does not end the wait."""
    waits: list[float | None] = []

    class Inbox(queue.SimpleQueue):  # type: ignore[type-arg]
        def get(self, block: bool = True, timeout: float | None = None) -> object:
            waits.append(timeout)
            return super().get(block, timeout)

    monkeypatch.setattr(queue, "SimpleQueue", Inbox)
    scene.go(scene.stage(Hosts), scene.stage(Cluster, Hosts))
    assert waits
    assert all(wait is not None and wait < 1 for wait in waits)


def test_what_ends_well_all_the_same_leaves_the_run_interrupted(scene: Scene) -> None:
    def presses() -> None:
        os.kill(os.getpid(), SIGINT)
        with contextlib.suppress(KeyboardInterrupt):
            until_told()

    made = scene.go(scene.stage(Hosts, act=presses), scene.stage(Cluster, Hosts))
    assert statuses(made) == {"hosts": "changed", "provision": "failed"}
    assert [step.exit_code for step in made.failures] == [130]


def test_ctrl_c_at_the_last_moment_is_not_lost_for_what_would_come_next(scene: Scene) -> None:
    made = scene.go(scene.stage(Hosts, act=lambda: os.kill(os.getpid(), SIGINT)))
    made.go([scene.task(scene.stage(Cluster, Hosts))])
    assert statuses(made) == {"hosts": "changed", "provision": "failed"}


def test_a_thread_that_does_not_end_is_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_PATIENCE", 0.01)
    deaf = threading.Event()

    def stays() -> None:
        os.kill(os.getpid(), SIGINT)
        deaf.wait(LONG)

    made = Scheduler()
    made.go([scene.task(scene.stage(Hosts, act=stays))])
    assert [step.exit_code for step in made.failures] == [130]
    assert [event.text for event in scene.events if isinstance(event, Note)] == [
        "run of hosts does not end, and is left"
    ]
    deaf.set()
    for thread in threading.enumerate():
        if thread.name == "run hosts":
            thread.join(LONG)


def test_evidence_of_an_interrupted_run_is_read_when_all_have_ended(scene: Scene) -> None:
    ended: list[str] = []

    def read(seconds: float) -> str:
        interrupt.check()  # what is read then is not ended by the same Ctrl-C
        return ",".join(sorted(ended))

    def act(name: str) -> Callable[[], None]:
        def until() -> None:
            waits_for(scene.has_begun("hosts"), scene.has_begun("model"))()
            if name == "hosts":
                raise KeyboardInterrupt
            try:
                until_told()
            finally:
                ended.append(name)

        return until

    made = scene.go(
        scene.stage(Hosts, act=act("hosts"), collect=lambda self, ctx: [Reading("hosts.log", read)]),
        scene.stage(ExportedModel, act=act("model")),
    )
    (evidence,) = made.results[0].evidence
    assert Path(evidence).read_text() == "model"
    assert made.results[1].evidence == ()


# What stages prepare while they wait.


def test_a_stage_prepares_where_a_place_is_free_and_waits_for_that(scene: Scene) -> None:
    prepared = threading.Event()

    def prepare(self: Any, ctx: Context, settings: Settings) -> None:
        waits_for(scene.has_begun("hosts"))()
        scene.did.append("prepare image")
        prepared.set()

    scene.go(scene.stage(Hosts, act=waits_for(prepared)), scene.stage(ImageRef, Hosts, prepare=prepare))
    assert scene.did == ["hosts", "prepare image", "image"]
    assert any(isinstance(event, Detail) and event.text.startswith("prepared in") for event in scene.events)


def test_a_stage_that_can_begin_waits_for_its_own_preparation(scene: Scene) -> None:
    ended = threading.Event()

    def told(event: Event) -> None:
        if isinstance(event, StageFinished) and event.name == "hosts":
            ended.set()

    def prepare(self: Any, ctx: Context, settings: Settings) -> None:
        prepares.set()
        waits_for(ended)()
        interrupt.pause(0.01)  # it would hear that nobody wants it
        scene.did.append("prepare image")

    prepares = threading.Event()
    scene.ctx = Context(scene.ctx.state, scene.ctx.run, scene.ctx.project, emit=told)
    scene.go(scene.stage(Hosts, act=waits_for(prepares)), scene.stage(ImageRef, Hosts, prepare=prepare))
    assert scene.did == ["hosts", "prepare image", "image"]


def test_nothing_is_prepared_for_a_stage_that_can_begin_or_is_not_to_run(scene: Scene) -> None:
    def prepare(self: Any, ctx: Context, settings: Settings) -> None:
        raise AssertionError("it was prepared")

    unwanted: dict[str, Any] = {"should_run": lambda self, settings: "brought along"}
    scene.go(
        scene.stage(Hosts, prepare=prepare),
        scene.stage(Cluster, Hosts, prepare=prepare, **unwanted),
        scene.task(scene.stage(ExportedModel, Hosts, prepare=prepare), skip=LATER),
    )
    assert not any(isinstance(event, Detail) for event in scene.events)


def test_a_preparation_that_fails_is_left_to_its_stage(scene: Scene) -> None:
    failed = threading.Event()

    def prepare(self: Any, ctx: Context, settings: Settings) -> None:
        failed.set()
        raise OSError("no space")

    made = scene.go(scene.stage(Hosts, act=waits_for(failed)), scene.stage(ImageRef, Hosts, prepare=prepare))
    assert set(statuses(made).values()) == {"changed"}
    assert Detail("could not be prepared: no space", stage="image") in scene.events


def test_a_preparation_that_nobody_waits_for_any_more_is_ended(scene: Scene) -> None:
    begun = threading.Event()

    def prepare(self: Any, ctx: Context, settings: Settings) -> None:
        begun.set()
        until_told()

    made = scene.go(
        scene.stage(Hosts, act=raises(HostError("no"), begun)), scene.stage(ImageRef, Hosts, prepare=prepare)
    )
    assert statuses(made) == {"hosts": "failed", "image": "not_run"}
    assert [step.exit_code for step in made.failures] == [3]


def test_a_download_ends_where_it_tells_its_progress(scene: Scene) -> None:
    begun = threading.Event()

    def prepare(self: Any, ctx: Context, settings: Settings) -> None:
        begun.set()
        while True:
            ctx.emit(ProgressAdvanced("download", 1))

    made = scene.go(
        scene.stage(Hosts, act=raises(HostError("no"), begun)), scene.stage(ImageRef, Hosts, prepare=prepare)
    )
    assert statuses(made) == {"hosts": "failed", "image": "not_run"}
