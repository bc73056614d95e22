"""Running stages side by side: each as soon as the values that it names are there.

The main thread alone decides: it starts threads, one for each stage that runs, and hears from them and from
signals through one queue. A thread does its work and says what came of it.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from slipway.core.errors import INTERRUPTED, SlipwayError
from slipway.core.events import Detail, Event, Note, ProgressAdvanced, of_stage
from slipway.core.evidence import Evidence
from slipway.core.interrupt import Cancelled, Interrupt, check, in_force, signals
from slipway.core.order import EARLIER, Task, in_order
from slipway.core.stage import HasPrepare, Stage, is_alone
from slipway.core.step import GO_ON, Step, earlier_step, look_into, run_stage, unwanted, with_evidence
from slipway.core.types import Result, Values

AT_ONCE = 2  # stages and preparations; each keeps a core busy, and the hosts of a lab are on this machine too
_LOOK = 0.5  # seconds: a signal that comes while Python is about to wait wakes nobody, and is seen afterwards
_PATIENCE = 15.0  # seconds for threads that are to end; one that waits for a dead network takes longer


@dataclass(frozen=True, eq=False)
class _Job:
    """What one thread does for a task. begun: when, on the clock of this process."""

    what: Literal["run", "prepare", "look into"]
    task: Task
    begun: float = field(default_factory=time.monotonic)


class Scheduler:
    """Runs the tasks of one run, and keeps what came of each.

    steps: by label, in the order in which they ended; a task that was not run has one too.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.steps: dict[str, Step] = {}
        self._at_once = at_once
        self._tasks: list[Task] = []
        self._begun = time.monotonic()
        self._jobs: dict[_Job, threading.Thread] = {}
        self._prepared: set[str] = set()
        self._to_look_into: list[Task] = []
        self._looked_into: set[str] = set()
        self._interrupted = False
        self._wish = Interrupt()
        self._inbox: queue.SimpleQueue[tuple[_Job, object] | None] = queue.SimpleQueue()

    @property
    def results(self) -> tuple[Result, ...]:
        """Of every task, in the order in which they were given."""
        return tuple(self.steps[task.label].result for task in self._tasks)

    @property
    def failures(self) -> tuple[Step, ...]:
        """The steps that failed or were interrupted, the first one first."""
        return tuple(step for step in self.steps.values() if step.exit_code)

    def values(self, model: str = "") -> Values:
        """What was made for a model, and for all."""
        out = Values()
        for task in self._tasks:
            if task.model in ("", model) and task.label in self.steps:
                out = out.having(self.steps[task.label].value)
        return out

    def go(self, tasks: Iterable[Task]) -> None:
        """Run these tasks, until each has been run or cannot be. Earlier ones may be what they wait for.

        Where a task fails, what runs already goes on to its end, and nothing is begun from which no proof can
        come any more. Ctrl-C and SIGTERM end all of them.
        """
        self._tasks += in_order(tasks, self._tasks)
        with signals(partial(self._inbox.put, None)), in_force(self._wish):
            try:
                self._go()
            finally:  # only a mistake in here leaves anything running
                self._wish.ask()
                for thread in self._jobs.values():
                    thread.join(_PATIENCE)
                self._wish.withdraw()
                self._interrupted |= not self._inbox.empty()  # pressed at the last moment

    def _go(self) -> None:
        while True:
            self._give_up()
            while (job := self._next()) is not None:
                self._begin(job)
            if not self._jobs:
                return
            if not self._open() and all(job.what == "prepare" for job in self._jobs) and not self._wish.asked:
                self._wish.ask()  # nobody waits for it any more
            self._hear()

    # -- what to do next ---------------------------------------------------------------------------------

    def _open(self) -> list[Task]:
        """The tasks that have not been begun."""
        running = {job.task.label for job in self._jobs if job.what == "run"}
        return [task for task in self._tasks if task.label not in self.steps.keys() | running]

    def _next(self) -> _Job | None:
        """What can be begun now: stages first, and in the order of the tasks."""
        if self._to_look_into and (not self._interrupted or not self._jobs):
            return _Job("look into", self._to_look_into.pop())
        if self._wish.asked:
            return None
        busy = [job.task for job in self._jobs if job.what != "look into"]
        if len(busy) >= self._at_once or any(is_alone(task.stage) for task in busy):
            return None
        # a stage never runs beside itself: for two models it would use one Docker, one Pulumi
        names = {task.name for task in busy}
        free = [task for task in self._open() if task.name not in names]
        for task in free:
            if self.steps.keys() >= set(task.after) and not (self._jobs and is_alone(task.stage)):
                return _Job("run", task)
        return next((_Job("prepare", task) for task in free if self._can_prepare(task)), None)

    def _can_prepare(self, task: Task) -> bool:
        if task.skip or task.label in self._prepared or not isinstance(task.stage, HasPrepare):
            return False
        return not unwanted(task.stage, task.settings)

    def _give_up(self) -> None:
        """Settle the tasks that are not to be begun."""
        for task in self._open():
            result = Result(task.name, "not_run", "", 0.0, model=task.model, after=task.after)
            if reason := self._pointless(task):
                self.steps[task.label] = Step(replace(result, reason=reason))
            elif self._interrupted and not any(job.what == "run" for job in self._jobs):
                # nothing that ran was interrupted; what would have come next is
                error = SlipwayError(f"interrupted before {task.label}", action=GO_ON)
                result = replace(result, status="failed", reason="interrupted")
                self.steps[task.label] = Step(result, None, error, INTERRUPTED)

    def _pointless(self, task: Task) -> str:
        """Why a task is not to be begun; empty if it is."""
        if task.skip and task.skip != EARLIER:
            return task.skip
        if any(step.exit_code == INTERRUPTED for step in self.failures):
            return "the run was interrupted"
        failed = [step.result for step in self.failures]
        models = {one.model for one in self._tasks} - {""}
        if not task.model and models and models <= {result.model for result in failed}:
            return f"{failed[0].label} failed"  # there is no model left that it would be for
        return next((f"{one.label} failed" for one in failed if one.model in ("", task.model)), "")

    # -- doing it ----------------------------------------------------------------------------------------

    def _begin(self, job: _Job) -> None:
        if job.what == "prepare":
            self._prepared.add(job.task.label)
        if job.what == "look into" and self._interrupted:
            self._wish.withdraw()  # all have ended; from here on the next Ctrl-C is meant
        act = {
            "run": partial(self._run, job.task, self.values(job.task.model)),
            "prepare": partial(self._prepare, job.task),
            "look into": partial(self._look_into, job.task, self._concerned(job.task)),
        }[job.what]
        # a daemon, so that one which cannot be ended keeps nobody from going home
        thread = threading.Thread(
            target=self._work, args=(job, act), name=f"{job.what} {job.task.label}", daemon=True
        )
        self._jobs[job] = thread
        thread.start()

    def _work(self, job: _Job, act: partial[object]) -> None:
        """A thread's whole life."""
        outcome: object = None
        try:
            outcome = act()
        except BaseException as error:  # noqa: BLE001  # the main thread raises it
            outcome = error
        finally:
            self._inbox.put((job, outcome))

    def _run(self, task: Task, values: Values) -> Step:
        task = _heeding(task)
        step = earlier_step if task.skip == EARLIER else run_stage
        return step(task.ctx, task.settings, task.stage, values)

    def _prepare(self, task: Task) -> None:
        task = _heeding(task)
        begin = time.monotonic()
        assert isinstance(task.stage, HasPrepare)  # `_next` chose it
        try:
            task.stage.prepare(task.ctx, task.settings)
        except Cancelled:
            return
        except Exception as error:  # noqa: BLE001  # the stage itself meets it again, and tells it
            task.ctx.emit(Detail(f"could not be prepared: {error}"))
        else:
            task.ctx.emit(Detail(f"prepared in {time.monotonic() - begin:.1f} s"))

    def _look_into(self, task: Task, stages: list[Stage]) -> Evidence | None:
        return look_into(_heeding(task).ctx, stages)

    def _concerned(self, task: Task) -> list[Stage]:
        """The stages whose logs may tell why a task failed: those of its model, and those of all."""
        out = []
        for one in self._tasks:
            step = self.steps.get(one.label)
            told = step is None or step.value is not None or step.result.status != "not_run"
            if one.model in ("", task.model) and told and one not in self._open():
                out.append(one.stage)
        return out

    # -- what came of it ---------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Wait for the next thing that happens: a thread has ended, or somebody wants all of them to."""
        until = time.monotonic() + (_PATIENCE if self._wish.asked else math.inf)
        while True:
            try:
                message = self._inbox.get(timeout=min(_LOOK, _PATIENCE))
                break
            except queue.Empty:
                if time.monotonic() >= until:
                    self._leave()
                    return
        if message is None:
            self._interrupted = True
            self._wish.ask()
            return
        job, outcome = message
        thread = self._jobs.pop(job, None)
        if thread is None:
            return  # it was left to itself
        thread.join()
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, Step):
            self._settle(job, outcome)
        elif isinstance(outcome, Evidence):
            self.steps[job.task.label] = with_evidence(self.steps[job.task.label], outcome)

    def _settle(self, job: _Job, step: Step) -> None:
        task = job.task
        result = replace(step.result, started=job.begun - self._begun, after=task.after)
        self.steps[task.label] = replace(step, result=result)
        if step.exit_code == INTERRUPTED and not self._interrupted:
            self._interrupted = True  # whoever asked the one asks all
            self._wish.ask()
        looked = self._looked_into if self._interrupted else self._looked_into & {task.model}
        if step.exit_code and not looked:  # the first one of each model, or what is interrupted first
            self._looked_into.add(task.model)
            self._to_look_into.append(task)

    def _leave(self) -> None:
        """Go on without the threads that do not end; they end with this process."""
        for job in list(self._jobs):
            del self._jobs[job]
            task = job.task
            task.ctx.emit(Note(f"{job.what} of {task.label} does not end, and is left"))
            if job.what == "run":
                seconds = time.monotonic() - job.begun
                result = Result(task.name, "failed", "interrupted", seconds, model=task.model)
                error = SlipwayError(f"interrupted during {task.label}, which did not end")
                self._settle(job, Step(result, None, error, INTERRUPTED))


def _heeding(task: Task) -> Task:
    """A task for the thread that calls this: its events say whose they are, and its progress ends with it.

    A download waits nowhere for long, and tells its progress all the time.
    """
    emit, own = of_stage(task.ctx.emit, task.label), threading.get_ident()

    def told(event: Event) -> None:
        emit(event)
        if isinstance(event, ProgressAdvanced) and threading.get_ident() == own:
            check()

    return replace(task, ctx=replace(task.ctx, emit=told))
