"""The recipe: which stages there are, in which order, and how a run of them goes.

In: a Context and Settings. Out: a Run, and its report in the run's folder. Nothing else orders stages;
nothing here knows what a stage does.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.core.beside import preparing
from slipway.core.context import Context
from slipway.core.errors import SlipwayError, UsageError
from slipway.core.events import Detail, Note
from slipway.core.schema import Settings
from slipway.core.stage import HasProvided, HasReady, HasRemove, Stage, name_of, produces
from slipway.core.step import Step, arguments, earlier_step, run_stage, told, unwanted, with_evidence
from slipway.core.types import Result, Run, Values
from slipway.deploy.stage import Deploy
from slipway.hosts.stage import MakeHosts
from slipway.image.stage import BuildImage
from slipway.model.stage import ExportModel
from slipway.provision.stage import Provision
from slipway.report import write as report
from slipway.smoke.stage import Smoke

STAGES: tuple[Stage, ...] = (MakeHosts(), Provision(), ExportModel(), BuildImage(), Deploy(), Smoke())


@dataclass(frozen=True)
class Ended:
    """A run, its exit code, and the error that ended it."""

    run: Run
    exit_code: int
    error: SlipwayError | None = None


def run(
    ctx: Context, settings: Settings, *, first: str = "", last: str = "", stages: Sequence[Stage] = STAGES
) -> Ended:
    """Run the stages from `first` to `last` (all without them), then write the report.

    A stage before `first` is not run: its last value is read from the state folder. After a failure evidence
    is collected from every stage that has made something, which never hides the first error; what they made
    stays, and the next run goes on from there.
    """
    begin, end = _span([name_of(stage) for stage in stages], first, last)
    values = Values()
    steps: list[Step] = []
    concerned: list[Stage] = []  # whose logs may tell why
    failed: Step | None = None
    with preparing(ctx, settings, stages[begin + 1 : end + 1]):
        for index, stage in enumerate(stages):
            if index > end or failed:
                why = "not asked for" if index > end else "an earlier stage failed"
                step = Step(Result(name_of(stage), "not_run", why, 0.0))
            elif index < begin:
                step = earlier_step(ctx, settings, stage, values)
            else:
                step = run_stage(ctx, settings, stage, values)
            failed = failed or (step if step.exit_code else None)
            if step.value is not None or step.result.status != "not_run":
                concerned.append(stage)
            steps.append(step)
            values = values.having(step.value)
    results = [step.result for step in steps]
    if failed:
        results = with_evidence(ctx, concerned, results)
    ended = Run(failed is None, tuple(results), values, report.versions())
    try:
        report.write(ctx.run, ended)
        ctx.state.close_run(ctx.run)
    except Exception as broken:  # the report must not hide how the run went
        ctx.emit(Note(f"the report could not be written: {broken}"))
        ctx.emit(Detail(traceback.format_exc()))
        if not failed:
            raise
    return Ended(ended, failed.exit_code, failed.error) if failed else Ended(ended, 0)


def require_ready(
    settings: Settings, *, first: str = "", last: str = "", stages: Sequence[Stage] = STAGES
) -> None:
    """Raise EnvironmentFault if a stage of this run cannot run on this machine. Touches nothing."""
    begin, end = _span([name_of(stage) for stage in stages], first, last)
    for stage in stages[begin : end + 1]:
        if isinstance(stage, HasReady) and not unwanted(stage, settings):
            stage.ready(settings)


def _span(names: list[str], first: str, last: str) -> tuple[int, int]:
    """Where in the chain a run begins and ends. Raises UsageError."""
    for name in (first, last):
        if name and name not in names:
            raise UsageError(f"no such stage: {name}", action=f"stages are {', '.join(names)}")
    begin, end = names.index(first) if first else 0, names.index(last) if last else len(names) - 1
    if begin > end:
        raise UsageError(f"{first} comes after {last}", action=f"the order is {', '.join(names)}")
    return begin, end


def plan(
    ctx: Context, settings: Settings, *, stages: Sequence[Stage] = STAGES
) -> list[tuple[str, list[str]]]:
    """(stage, what its run would change) for each stage of the chain; changes nothing."""
    values = Values()
    out: list[tuple[str, list[str]]] = []
    for stage in stages:
        name = name_of(stage)
        if why := unwanted(stage, settings):
            if isinstance(stage, HasProvided):
                values = values.having(stage.provided(ctx, settings).value)
            out.append((name, []))
            ctx.emit(Note(f"{name}: {why}"))
            continue
        known = arguments(stage, settings, values, method="plan")
        out.append((name, stage.plan(ctx, **known)))
        values = values.having(ctx.state.kept(produces(stage)))
    return out


def down(ctx: Context, settings: Settings, *, stages: Sequence[Stage] = STAGES) -> list[str]:
    """Remove what the stages made, last to first, then the state folder but for the reports of runs.

    Every stage is tried even when another one fails; the first failure is raised at the end, and the
    state folder then stays, so that a second `down` can finish.
    """
    removed: list[str] = []
    failed: list[SlipwayError] = []
    for stage in reversed(stages):
        if isinstance(stage, HasRemove):
            try:
                removed += stage.remove(ctx, settings)
            except Exception as failure:  # noqa: BLE001  # whatever it is, the other stages are tried
                failed.append(told(ctx, name_of(stage), failure))
                ctx.emit(Note(f"{name_of(stage)}: {failed[-1].what}"))
    if failed:
        raise failed[0]
    return removed + ctx.state.clear()
