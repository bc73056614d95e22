"""Closed loops: a fixed number of requests in flight, and a new one sent for each that is answered."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from slipway_client.client import Answer
from slipway_client.errors import NotReachable, RequestFailed, TimedOut
from slipway_client.statistics import OK, Statistics, summarize

NOT_SENT = "NOT_SENT"
Call = Callable[[], Answer]

STABLE_WINDOWS = 3
STABLE_WITHIN = 0.10


@dataclass(frozen=True)
class Ended:
    """One request's end: its answer, or its error; seconds from sending to the end."""

    answer: Answer | None
    error: RequestFailed | None
    seconds: float

    @property
    def status(self) -> str:
        if self.error is None:
            return OK
        return self.error.status


def each(
    calls: Sequence[Call],
    concurrency: int,
    *,
    on_end: Callable[[int, Ended], None] = lambda _index, _ended: None,
) -> tuple[list[Ended], float]:
    """Make every call once, `concurrency` at a time. Returns how each ended, and the seconds in all.

    Once twice `concurrency` calls in a row (at least 4) got no answer at all, the rest is not sent and ends
    with status NOT_SENT: a server that hangs costs a few deadlines, not hundreds. on_end is called from the
    calling threads, one at a time.
    """
    out: list[Ended | None] = [None] * len(calls)
    numbers = itertools.count()
    guard = threading.Lock()
    silent = 0
    patience = max(4, 2 * concurrency)

    def work() -> None:
        nonlocal silent
        while True:
            with guard:
                index = next(numbers)
                gone = silent >= patience
            if index >= len(calls):
                return
            if gone:
                lost = RequestFailed(f"not sent: {silent} requests in a row got no answer", status=NOT_SENT)
                ended = Ended(None, lost, 0.0)
            else:
                ended = _one(calls[index])
            with guard:
                if not gone:
                    silent = silent + 1 if isinstance(ended.error, TimedOut | NotReachable) else 0
                out[index] = ended
                on_end(index, ended)

    started = time.monotonic()
    _together(work, min(concurrency, len(calls)))
    return [ended for ended in out if ended is not None], time.monotonic() - started


@dataclass(frozen=True)
class Load:
    """A server under a steady load.

    windows: the median latency of each in ms. stable: the last ones agreed.
    """

    stable: bool
    concurrency: int
    statistics: Statistics
    windows: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "stable": self.stable,
            "concurrency": self.concurrency,
            "windows": list(self.windows),
            **self.statistics.as_json(),
        }


def load(calls: Sequence[Call], concurrency: int, *, window: float = 0.5, most_windows: int = 20) -> Load:
    """Repeat the calls in turn until p50 is stable, and return the figures of the last three windows.

    Stable means that the medians of the last three windows (of `window` seconds each) lie within 10 % of each
    other. Ends after `most_windows` in any case.
    """
    ended: list[list[tuple[str, float]]] = [[]]
    rounds = itertools.count()
    guard = threading.Lock()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            one = _one(calls[next(rounds) % len(calls)])
            if one.error is not None:
                over.wait(0.01)  # a refused request costs nothing; do not spin on a dead server
            with guard:
                ended[-1].append((one.status, one.seconds))

    medians: list[float] = []
    lengths: list[float] = []

    def watch() -> None:
        since = time.monotonic()
        try:
            while len(medians) < most_windows and not _stable(medians):
                time.sleep(window)
                with guard:
                    now = time.monotonic()
                    closed = ended[-1]
                    ended.append([])
                lengths.append(now - since)
                since = now
                found = summarize(closed, lengths[-1]).latency
                medians.append(found.p50 if found else 0.0)
        finally:
            over.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _together(work, concurrency)
    finally:
        over.set()
        watcher.join()
    # The last list was opened when the last window closed; it is not a whole window.
    last = ended[-1 - STABLE_WINDOWS : -1]
    seen = [one for part in last for one in part]
    statistics = summarize(seen, sum(lengths[-STABLE_WINDOWS:]))
    return Load(_stable(medians), concurrency, statistics, tuple(medians))


def _stable(medians: Sequence[float]) -> bool:
    last = medians[-STABLE_WINDOWS:]
    return len(last) == STABLE_WINDOWS and min(last) > 0 and max(last) <= min(last) * (1 + STABLE_WITHIN)


def _one(call: Call) -> Ended:
    started = time.monotonic()
    try:
        answer = call()
    except RequestFailed as error:
        return Ended(None, error, time.monotonic() - started)
    return Ended(answer, None, time.monotonic() - started)


def _together(work: Callable[[], None], count: int) -> None:
    """Run `work` in `count` threads and raise the first exception any of them raised."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # carried to the caller, not swallowed
            failed.append(error)

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
