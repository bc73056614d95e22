"""Where work is done: what is quick in the event loop itself, the rest in threads."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Work shorter than this is done in the event loop: handing it to a thread and back costs about 0.1 ms, a
# seventh of what a small model's whole request takes.
QUICK_SECONDS = 0.002
_CERTAINLY_SLOW = 0.05
_WAITED = 0.1  # how much of the time that work did not compute counts
_MOST_KEYS = 4096


class Workers:
    """Learns what each kind of work costs. Used from one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1), thread_name_prefix="run")
        self._seconds: dict[Hashable, float] = {}  # moving averages
        # Quick work that took long: it computed, or others had the processor. Which, is found out the next
        # time, for asking the kernel each time would cost every request some microseconds.
        self._doubted: set[Hashable] = set()

    def quick(self, kind: Hashable, seconds: float = QUICK_SECONDS) -> bool:
        """Whether work of this kind is known to take less, and so is short enough for the event loop."""
        return self._seconds.get(kind, seconds) < seconds

    def here(self, kind: Hashable, work: Callable[[], T]) -> T:
        """Do it now, in this thread."""
        if kind in self._doubted:
            self._doubted.discard(kind)
            result, seconds = _timed(work)
        else:
            started = time.perf_counter()
            result = work()
            seconds = time.perf_counter() - started
            if QUICK_SECONDS <= seconds < _CERTAINLY_SLOW:
                self._doubted.add(kind)
                return result
        self._learn(kind, seconds)
        return result

    async def there(
        self,
        kind: Hashable,
        work: Callable[[], T],
        ended: Callable[[], None] = lambda: None,
        pool: Executor | None = None,
    ) -> T:
        """Do it in a thread. When the caller leaves, work that has not begun is dropped; other is finished.

        ended: called in the event loop, after both.
        """
        loop = asyncio.get_running_loop()
        future = (pool or self._threads).submit(_timed, work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(ended))
        result, seconds = await asyncio.wrap_future(future)
        self._learn(kind, seconds)
        return result

    def close(self) -> None:
        """Give the threads back; work under way is waited for."""
        self._threads.shutdown()

    def _learn(self, kind: Hashable, seconds: float) -> None:
        known = self._seconds.get(kind)
        if known is not None:
            # Believe slow work at once, and fast soon: the first pays for TensorFlow's set-up.
            seconds = known + (seconds - known) * (0.2 if seconds > known else 0.5)
        elif len(self._seconds) >= _MOST_KEYS:
            self._seconds.clear()  # kinds hold names that clients make up; keep them bounded
            self._doubted.clear()
        self._seconds[kind] = seconds


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """The result, and what it cost: the processor's time, and a little of the time it waited.

    On a busy machine waiting says more about others than about the work; still, work that does nothing but
    wait for long must not be done where everybody waits with it.
    """
    wall, cpu = time.perf_counter(), time.thread_time()
    result = work()
    cpu = time.thread_time() - cpu
    return result, cpu + _WAITED * max(0.0, time.perf_counter() - wall - cpu)
