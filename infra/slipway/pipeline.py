"""The recipe: which stages there are, in which order, and how a run of them goes.

In: a Context and Settings. Out: a Run, and its report in the run's folder. Nothing else lists stages, and
what waits for what follows from their signatures (core/order.py); nothing here knows what a stage does.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace

from slipway.core.context import Context
from slipway.core.errors import SlipwayError
from slipway.core.events import Detail, Note
from slipway.core.order import EARLIER, LATER, Task, span
from slipway.core.scheduler import Scheduler
from slipway.core.schema import Settings
from slipway.core.stage import HasLeft, HasProvided, HasReady, HasRemove, Stage, is_shared, name_of, produces
from slipway.core.step import arguments, errors_of, exit_code_of, foreseen, told, unwanted
from slipway.core.types import Run, Values, label_of
from slipway.deploy.stage import Deploy
from slipway.hosts.stage import MakeHosts
from slipway.image.stage import BuildImage
from slipway.model.stage import ExportModel
from slipway.provision.stage import Provision
from slipway.report import write as report
from slipway.serve.stage import ServeOnHosts
from slipway.smoke.stage import Smoke

# what of later stages is in a host made here from the start
HOSTS = MakeHosts(bakers=(Provision(), BuildImage()))
STAGES: tuple[Stage, ...] = (
    HOSTS,
    Provision(),
    ExportModel(),
    ServeOnHosts(),
    BuildImage(),
    Deploy(),
    Smoke(),
)


@dataclass(frozen=True)
class Ended:
    """A run, its exit code, and the errors that ended it: stages beside each other may each have one."""

    run: Run
    exit_code: int
    errors: tuple[SlipwayError, ...] = ()

    @property
    def error(self) -> SlipwayError | None:
        """The first of them, None where all went well."""
        return self.errors[0] if self.errors else None


def run(
    ctx: Context,
    settings: Settings,
    *,
    first: str = "",
    last: str = "",
    only: str = "",
    stages: Sequence[Stage] = STAGES,
) -> Ended:
    """Run the stages from `first` to `last` (all without them), then write the report.

    Each begins as soon as the values that it names are there. Of several models each goes through the stages
    behind the cluster by itself, or the one called `only` does. One that fails keeps no other from being
    deployed and proved, and the run has failed all the same.

    A stage before `first` is not run: its last value is read from the state folder. After a failure evidence
    is collected from every stage that has made something, which never hides the first error; what they made
    stays, and the next run goes on from there.
    """
    names = [name_of(stage) for stage in stages]
    begin, end = span(names, first, last)
    skip = {**dict.fromkeys(names[:begin], EARLIER), **dict.fromkeys(names[end + 1 :], LATER)}
    each = settings.each(only)
    once, own = _split(stages)
    models = [(ctx.of(name), its) for name, its in each]
    scheduler = Scheduler()
    scheduler.go(
        [
            *(Task(stage, ctx, settings, skip.get(name_of(stage), "")) for stage in once),
            *(Task(stage, *model, skip.get(name_of(stage), "")) for model in models for stage in own),
        ]
    )
    if not only:
        # nothing is taken away while something is wrong
        wrong = next((f"{step.result.label} failed" for step in scheduler.failures), "")
        scheduler.go(
            Task(away, ctx.of(name), settings, wrong)
            for stage in stages[begin : end + 1]
            for name, away in (stage.left(ctx, settings) if isinstance(stage, HasLeft) else ())
        )
    failures = scheduler.failures
    values = _values(scheduler, [name for name, _ in each])
    ended = Run(not failures, scheduler.results, values, report.versions())
    try:
        report.write(ctx.run, ended)
        ctx.state.close_run(ctx.run)
    except Exception as broken:  # the report must not hide how the run went
        ctx.emit(Note(f"the report could not be written: {broken}"))
        ctx.emit(Detail(traceback.format_exc()))
        if not failures:
            raise
    return Ended(ended, exit_code_of(failures), errors_of(failures))


def _split(stages: Sequence[Stage]) -> tuple[Sequence[Stage], Sequence[Stage]]:
    """The stages that are run once, and those behind them, which each model has for itself."""
    count = next((index for index, stage in enumerate(stages) if not is_shared(stage)), len(stages))
    return stages[:count], stages[count:]


def _values(scheduler: Scheduler, models: Sequence[str]) -> Values:
    """What the stages made: one model's as they are, several models' by name."""
    made = {name: scheduler.values(name) for name in models}
    if "" in made:
        return made[""]
    return replace(
        scheduler.values(),
        models={name: replace(values, hosts=None, cluster=None) for name, values in made.items()},
    )


def require_ready(
    settings: Settings, *, first: str = "", last: str = "", only: str = "", stages: Sequence[Stage] = STAGES
) -> None:
    """Raise EnvironmentFault if a stage of this run cannot run on this machine. Touches nothing."""
    begin, end = span([name_of(stage) for stage in stages], first, last)
    for stage in stages[begin : end + 1]:
        for _, own in settings.each(only):
            if isinstance(stage, HasReady) and not unwanted(stage, own):
                stage.ready(own)


def plan(
    ctx: Context, settings: Settings, *, stages: Sequence[Stage] = STAGES
) -> list[tuple[str, str, list[str]]]:
    """(stage, model, what its run would change) for each stage; changes, fetches and builds nothing."""
    ctx = replace(ctx, cached_only=True)
    once, own = _split(stages)
    shared, out = _plan(ctx, settings, once, Values())
    for name, its in settings.each():
        out += _plan(ctx.of(name), its, own, shared)[1]
    for stage in stages:
        for name, away in stage.left(ctx, settings) if isinstance(stage, HasLeft) else ():
            known = arguments(away, settings, shared, method="plan")
            out.append((name_of(away), name, away.plan(ctx.of(name), **known)))
    return out


def _plan(
    ctx: Context, settings: Settings, stages: Sequence[Stage], values: Values
) -> tuple[Values, list[tuple[str, str, list[str]]]]:
    out: list[tuple[str, str, list[str]]] = []
    for stage in stages:
        name, model = name_of(stage), ctx.state.model
        if why := unwanted(stage, settings):
            lines: list[str] = []
            if isinstance(stage, HasProvided):
                found, lines = foreseen(stage.provided, ctx, settings)
                values = values.having(found and found.value)
            out.append((name, model, lines))
            ctx.emit(Note(f"{label_of(name, model)}: {why}"))
            continue
        known = arguments(stage, settings, values, method="plan")
        planned, lines = foreseen(stage.plan, ctx, **known)
        out.append((name, model, lines if planned is None else planned))
        values = values.having(ctx.state.kept(produces(stage)))
    return values, out


def down(ctx: Context, settings: Settings, *, stages: Sequence[Stage] = STAGES) -> list[str]:
    """Remove what the stages made, last to first, then the state folder but for the reports of runs.

    What each model has is removed for every one that something is kept of, and not only for those that the
    settings name. Every stage is tried even when another one fails; the first failure is raised at the end,
    and the state folder then stays, so that a second `down` can finish.
    """
    removed: list[str] = []
    failed: list[SlipwayError] = []
    once, own = _split(stages)
    steps = [(stage, name) for name in ("", *ctx.state.kept_models) for stage in reversed(own)]
    for stage, name in [*steps, *((stage, "") for stage in reversed(once))]:
        if isinstance(stage, HasRemove):
            try:
                removed += stage.remove(ctx.of(name), settings.of(name))
            except Exception as failure:  # noqa: BLE001  # whatever it is, the other stages are tried
                failed.append(told(ctx, name_of(stage), failure))
                ctx.emit(Note(f"{label_of(name_of(stage), name)}: {failed[-1].what}"))
    if failed:
        raise failed[0]
    return removed + ctx.state.clear()
