"""A version from its folder: loaded, warmed, counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from slipway_server import runtime as rt
from slipway_server.codes import StatusError
from slipway_server.metrics import Metrics
from slipway_server.servable import Servable
from slipway_server.steps import Together
from slipway_server.warmup import warm_up


class Loader:
    """What Models calls to bring a version up; runs in a thread of its own."""

    def __init__(
        self,
        runtime: rt.Runtime,
        metrics: Metrics,
        tags: Sequence[str] = ("serve",),
        warm_ups: int = 1,
        together: Callable[[Servable], Together | None] = lambda _: None,
    ) -> None:
        """tags: of the graph to load. warm_ups: times each recorded request is answered; 0: not at all.

        together: what batches a servable's requests, if anything does.
        """
        self._together = together
        self._runtime = runtime
        self._metrics = metrics
        self._tags = tuple(tags)
        self._warm_ups = warm_ups

    def __call__(self, name: str, version: int, path: Path) -> Servable:
        """A servable that has answered its warm-up requests.

        Raises StatusError when it cannot be loaded or warmed; leaves nothing loaded then.
        """
        started = time.perf_counter()
        try:
            servable = Servable(self._runtime, name, version, path, self._metrics, tags=self._tags)
        except StatusError:
            self._metrics.load_attempts.add(str(path), "fail")
            raise
        self._metrics.load_attempts.add(str(path), "success")
        self._metrics.load_latency.add(str(path), amount=_microseconds(started))
        try:
            servable.together = self._together(servable)
            if self._warm_ups:
                warm_up(servable, self._metrics, self._warm_ups)
        except BaseException:
            servable.close()
            raise
        return servable


def _microseconds(since: float) -> int:
    return int((time.perf_counter() - since) * 1e6)
