"""One step of a run: a stage asked for its value, and what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from slipway_client.logins import without_logins

from slipway.core.context import Context
from slipway.core.errors import (
    INTERRUPTED,
    STAGE_EXIT_CODES,
    GateFailed,
    NotCached,
    SlipwayError,
    UsageError,
)
from slipway.core.events import Detail, Note, StageFinished, StageStarted
from slipway.core.evidence import MISSING, Evidence, gather
from slipway.core.faults import explained
from slipway.core.schema import Settings
from slipway.core.stage import HasCollect, HasProvided, HasShouldRun, Stage, name_of, needs, produces
from slipway.core.types import MADE_BY, Result, Status, Values, label_of

T = TypeVar("T")
GO_ON = "the same command goes on from here"


@dataclass(frozen=True)
class Step:
    """How one stage went, the value it handed on, and what ended the run if it did."""

    result: Result
    value: object = None
    error: SlipwayError | None = None
    exit_code: int = 0


def earlier_step(ctx: Context, settings: Settings, stage: Stage, values: Values) -> Step:
    """A stage before the first one that is run: what the user brought along, else its last value."""
    if unwanted(stage, settings):
        return run_stage(ctx, settings, stage, values)
    value = ctx.state.kept(produces(stage))
    why = "taken from the last run" if value is not None else "no value yet"
    return Step(Result(name_of(stage), "not_run", why, 0.0, model=ctx.state.model), value)


def unwanted(stage: Stage, settings: Settings) -> str:
    """Why the user does not want this stage; empty if it is to run."""
    return stage.should_run(settings) if isinstance(stage, HasShouldRun) else ""


def foreseen(ask: Callable[..., T], *asked: object, **known: object) -> tuple[T | None, list[str]]:
    """What a stage answers where nothing is fetched or built, or a line that says what an answer takes."""
    try:
        return ask(*asked, **known), []
    except NotCached as missing:
        return None, [f"what changes is known once `slipway up` has got what it takes: {missing.what}"]


def run_stage(ctx: Context, settings: Settings, stage: Stage, values: Values) -> Step:
    """Run one stage, whatever comes of it."""
    name, model, begin = name_of(stage), ctx.state.model, time.monotonic()
    label = label_of(name, model)
    value: object = None
    error: SlipwayError | None = None
    code, changed = 0, 0
    status: Status = "failed"
    try:
        if why := unwanted(stage, settings):
            outcome = stage.provided(ctx, settings) if isinstance(stage, HasProvided) else None
            value, reason = (outcome.value, f"{why}: {outcome.summary}") if outcome else (None, why)
            status = "not_run"
        else:
            ctx.emit(StageStarted(label, stage.title))
            outcome = stage.run(ctx, **arguments(stage, settings, values))
            value, changed, reason = outcome.value, outcome.changed, outcome.summary
            status = "changed" if changed else "unchanged"
        if value is not None:
            ctx.state.keep(value)
    except KeyboardInterrupt:
        error = SlipwayError(f"interrupted during {label}", action=GO_ON)
        reason, code = "interrupted", INTERRUPTED
    except Exception as failure:  # noqa: BLE001  # whatever it is: told, and the run's report is written
        error = told(ctx, name, failure)
        reason = "\n".join(error.lines())
        code = error.exit_code or STAGE_EXIT_CODES.get(name, 3)
        value = failure.value if isinstance(failure, GateFailed) else None  # a failed proof is still one
    seconds = time.monotonic() - begin
    reason = without_logins(reason)
    ctx.emit(StageFinished(label, status, seconds, reason.splitlines()[0] if reason else ""))
    evidence = tuple(str(path) for path in error.evidence) if error else ()
    return Step(Result(name, status, reason, seconds, changed, evidence, model=model), value, error, code)


def exit_code_of(failures: Sequence[Step]) -> int:
    """That of the first failure, but for a run that was interrupted; 0 if all went well."""
    codes = [step.exit_code for step in failures]
    return INTERRUPTED if INTERRUPTED in codes else codes[0] if codes else 0


def errors_of(failures: Sequence[Step]) -> tuple[SlipwayError, ...]:
    """Those of the failures, the first one first; an interruption is one, however many stages it ended."""
    out = [step.error for step in failures if step.error is not None and step.exit_code != INTERRUPTED]
    cut = [step for step in failures if step.exit_code == INTERRUPTED]
    if len(cut) > 1:
        labels = " and ".join(step.result.label for step in cut)
        out.append(SlipwayError(f"interrupted during {labels}", action=GO_ON))
    elif cut and cut[0].error is not None:
        out.append(cut[0].error)
    return tuple(out)


def told(ctx: Context, name: str, failure: Exception) -> SlipwayError:
    """What ended a stage, as an error for people; the log has the traceback of what nobody expected."""
    if not isinstance(failure, SlipwayError):
        ctx.emit(Detail("".join(traceback.format_exception(failure))))
    return explained(failure, name, lambda trace: ctx.keep_evidence(f"{name}.traceback", trace))


def arguments(stage: Stage, settings: Settings, values: Values, method: str = "run") -> dict[str, object]:
    """What a stage's signature asks for.

    Raises UsageError for a required value that no earlier stage made.
    """
    out: dict[str, object] = {}
    for parameter, (kind, optional) in needs(stage, method).items():
        value = settings if kind is Settings else values.of(kind)
        if value is None and not optional:
            earlier = MADE_BY[kind]
            raise UsageError(
                f"{name_of(stage)} needs what {earlier} makes, and there is none yet",
                action=f"`slipway up` does the whole chain, `slipway up --from {earlier}` from there on",
            )
        out[parameter] = value
    return out


def look_into(ctx: Context, stages: Sequence[Stage]) -> Evidence | None:
    """The evidence of these stages, what was made last first: it is the nearest to the failure.

    None where none of them has any.
    """
    collectors = {
        name_of(stage): partial(stage.collect, ctx)
        for stage in reversed(stages)
        if isinstance(stage, HasCollect)
    }
    if not collectors:
        return None
    found = gather(ctx, collectors)
    ctx.emit(Note(_sentence(found)))
    return found


def with_evidence(step: Step, found: Evidence) -> Step:
    """The step with evidence of why it failed, and the time that took."""
    files = tuple(dict.fromkeys((*step.result.evidence, *map(str, found.files))))
    return replace(step, result=replace(step.result, evidence=files, evidence_seconds=found.seconds))


def _sentence(found: Evidence) -> str:
    count = len(found.files)
    text = f"evidence: {count} file{'s' * (count != 1)} in {found.seconds:.1f} s"
    return f"{text}, {len(found.missing)} missing: {found.missing[0]} ({MISSING})" if found.missing else text
