"""A part of a run: stages gone through in order, for one model or before any, until one of them fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from slipway.core.context import Context
from slipway.core.errors import INTERRUPTED
from slipway.core.schema import Settings
from slipway.core.stage import Stage, name_of
from slipway.core.step import Step, earlier_step, run_stage, with_evidence
from slipway.core.types import Result, Values

# Why a stage is skipped: its last value stands, or nobody asked for it
EARLIER, LATER = "earlier", "not asked for"


@dataclass(frozen=True)
class Part:
    """What came of some stages.

    results: of these stages alone. values, concerned, failed: with those of the part before. concerned: the
    stages whose logs may tell why. failed: the step that ended it.
    """

    results: tuple[Result, ...] = ()
    values: Values = field(default_factory=Values)
    concerned: tuple[Stage, ...] = ()
    failed: Step | None = None

    @property
    def interrupted(self) -> bool:
        """Whether somebody wanted the whole run to end."""
        return self.failed is not None and self.failed.exit_code == INTERRUPTED


def go_through(
    ctx: Context, settings: Settings, stages: Sequence[Stage], skipped: Mapping[str, str], before: Part
) -> Part:
    """Run the stages, but for those that are skipped: name -> EARLIER or LATER.

    Nothing is run where the part before has failed. A failure of one of these has its evidence.
    """
    part = replace(before, results=())
    for stage in stages:
        name = name_of(stage)
        why = skipped.get(name, "")
        if why == LATER or part.failed:
            reason = why if why == LATER else "an earlier stage failed"
            step = Step(Result(name, "not_run", reason, 0.0, model=ctx.state.model))
        elif why == EARLIER:
            step = earlier_step(ctx, settings, stage, part.values)
        else:
            step = run_stage(ctx, settings, stage, part.values)
        told = step.value is not None or step.result.status != "not_run"
        part = Part(
            (*part.results, step.result),
            part.values.having(step.value),
            (*part.concerned, stage) if told else part.concerned,
            part.failed or (step if step.exit_code else None),
        )
    if part.failed and not before.failed:
        return replace(part, results=tuple(with_evidence(ctx, part.concerned, part.results)))
    return part
