"""Where work is done: learnt from what it cost, not from how long it waited."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from slipway_server.workers import QUICK_SECONDS, Workers


class Clock:
    """The two clocks of workers.py, moved by the work itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.cpu = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(time, "thread_time", lambda: self.cpu)

    def work(self, computing: float, waiting: float = 0.0) -> Callable[[], int]:
        def work() -> int:
            self.cpu += computing
            self.wall += computing + waiting
            return threading.get_ident()

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def learnt(workers: Workers, clock: Clock) -> None:
    """The kind "k" is known to be quick."""
    assert not workers.quick("k")
    await workers.there("k", clock.work(QUICK_SECONDS / 10))
    assert workers.quick("k")


def test_unknown_work_goes_to_a_thread_and_is_told_when_it_ended(clock: Clock) -> None:
    async def main() -> None:
        workers = Workers()
        ended = asyncio.Event()
        thread = await workers.there("k", clock.work(QUICK_SECONDS), ended.set)
        assert thread != threading.get_ident()
        await ended.wait()
        assert not workers.quick("k")
        workers.close()

    asyncio.run(main())


def test_work_that_waited_for_the_processor_stays_quick(clock: Clock) -> None:
    async def main() -> None:
        workers = Workers()
        await learnt(workers, clock)
        for _ in range(4):
            assert workers.here("k", clock.work(0.0001, waiting=0.005)) == threading.get_ident()
            assert workers.quick("k")
        workers.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("computing", "waiting", "runs"),
    [(1.0, 0.0, 1), (0.02, 0.0, 2), (0.0, 0.3, 1), (0.0, 0.04, 20)],
    ids=["much slower", "slower", "waits long", "waits always"],
)
def test_slow_work_is_believed(clock: Clock, computing: float, waiting: float, runs: int) -> None:
    async def main() -> None:
        workers = Workers()
        await learnt(workers, clock)
        done = 0
        while workers.quick("k"):
            workers.here("k", clock.work(computing, waiting))
            done += 1
        assert done <= runs
        workers.close()

    asyncio.run(main())


def test_what_is_known_stays_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway_server.workers._MOST_KEYS", 4)

    async def main() -> None:
        workers = Workers()
        for kind in range(20):
            await workers.there(kind, clock.work(0.0001))
        assert sum(workers.quick(kind) for kind in range(20)) <= 4
        workers.close()

    asyncio.run(main())
