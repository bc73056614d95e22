"""Where the time of a run went, when some of its stages ran beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slipway.core.types import Result


def whole_seconds(results: Iterable[Result]) -> float:
    """From the beginning of the run to the end of the last stage, or of collecting its evidence."""
    return max((result.ended + result.evidence_seconds for result in results), default=0.0)


def critical_path(results: Sequence[Result]) -> tuple[Result, ...]:
    """The stages that decided how long the run took, in order.

    The one that ended last; of those whose values it waited for the one that ended last; and so on. A stage
    that took no time is not among them.
    """
    took = {result.label: result for result in results if result.seconds > 0}
    path: list[Result] = []
    waited_for = list(took.values())
    while waited_for:
        path.insert(0, max(waited_for, key=lambda result: result.ended))
        waited_for = [took[label] for label in path[0].after if label in took]
    return tuple(path)
