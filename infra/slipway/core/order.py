"""What of a run waits for what: nothing is listed, all of it is read from the signatures of stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.schema import Settings
from slipway.core.stage import Stage, name_of, needs, produces
from slipway.core.step import unwanted
from slipway.core.types import label_of

# Why a stage is skipped: its last value stands, or nobody asked for it
EARLIER, LATER = "earlier", "not asked for"


@dataclass(frozen=True, eq=False)
class Task:
    """A stage of a run, for one model or for all.

    skip: EARLIER, or else why it is not to be run; empty if it is. after: the labels of those it waits for.
    """

    stage: Stage
    ctx: Context
    settings: Settings
    skip: str = ""
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return name_of(self.stage)

    @property
    def model(self) -> str:
        return self.ctx.state.model

    @property
    def label(self) -> str:
        return label_of(self.name, self.model)


def in_order(tasks: Iterable[Task], before: Sequence[Task] = ()) -> tuple[Task, ...]:
    """The tasks, each after those of them, and of the ones before, that make what its stage names.

    A value is one of its own model, or one that is made for all. Only what stands earlier is waited for, so
    nothing waits in a circle. A stage that is not run names nothing.
    """
    makers: dict[tuple[type, str], str] = {(produces(one.stage), one.model): one.label for one in before}
    out: list[Task] = []
    for task in tasks:
        runs = not task.skip and not unwanted(task.stage, task.settings)
        named = [kind for kind, _ in needs(task.stage).values()] if runs else []
        found = [makers.get((kind, task.model)) or makers.get((kind, "")) for kind in named]
        out.append(replace(task, after=tuple(dict.fromkeys(label for label in found if label))))
        makers[produces(task.stage), task.model] = task.label
    return tuple(out)


def span(names: list[str], first: str, last: str) -> tuple[int, int]:
    """Where in the chain a run begins and ends. Raises UsageError."""
    for name in (first, last):
        if name and name not in names:
            raise UsageError(f"no such stage: {name}", action=f"stages are {', '.join(names)}")
    begin, end = names.index(first) if first else 0, names.index(last) if last else len(names) - 1
    if begin > end:
        raise UsageError(f"{first} comes after {last}", action=f"the order is {', '.join(names)}")
    return begin, end
