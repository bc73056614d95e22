"""The work on a request in steps, so that its run can be done at once or together with others'."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from slipway_server import runtime as rt
from slipway_server.session_tensors import Hold

T = TypeVar("T")


class Run(NamedTuple):
    """What a request asks of the session: `tensors` to feed, `wanted` names of the outputs to fetch.

    api: under which it is counted; empty for MultiInference, which upstream does not count.
    """

    api: str
    signature: str
    feeds: rt.Outputs
    tensors: Sequence[rt.Tensor]
    wanted: Sequence[str]
    fetches: rt.Outputs
    hold: Hold


# Up to the run that a request asks for, and with its results to the answer.
Steps = Generator[Run, Sequence[rt.Tensor], T]


Keep = Callable[[], Callable[[], None]]  # keeps a version loaded, and returns what lets it go


# The parts of a request by name with begin and end, of time.perf_counter.
Times = list[tuple[str, float, float]]


class Together(Protocol):
    """What runs the requests of a servable together with each other."""

    async def run(self, run: Run, keep: Keep, times: Times | None) -> Sequence[rt.Tensor]:
        """The results of a run. times: gets its parts. Raises StatusError."""


def free(_size: int) -> None:
    """What a request of the server's own claims: nothing."""


def finish(steps: Steps[T], results: Sequence[rt.Tensor]) -> T:
    """The answer of steps that have told their run, from its results."""
    try:
        steps.send(results)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise AssertionError("a request has one run")
