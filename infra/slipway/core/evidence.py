"""Evidence after a failure: what the stages can read, at once, under one deadline, into files of the run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slipway.core import interrupt
from slipway.core.context import Context
from slipway.core.errors import SlipwayError
from slipway.core.events import progress

# For all evidence together. Programs are ended by their own limits before that, and what ignores its limit is
# left to itself.
SECONDS = 28.0
READING_SECONDS = 15.0  # for one step of one file of it; a busy host takes that long to greet
_AT_ONCE = 8
MISSING = "missing.txt"
_CUT_OFF = f"cut off: collecting evidence ends after {SECONDS:g} s"


@dataclass(frozen=True)
class Reading:
    """One file of evidence that can be read.

    name: its path below the run's evidence/. read: its text, given the seconds it may take; an empty text
    makes no file, an exception is told as the reason why the file is missing. It runs beside others.
    """

    name: str
    read: Callable[[float], str]


Collector = Callable[[], Sequence[Reading]]


@dataclass(frozen=True)
class Evidence:
    """What was collected. files: all of them. missing: what was not, one line each. seconds: how long."""

    files: tuple[Path, ...]
    missing: tuple[str, ...]
    seconds: float


def gather(ctx: Context, collectors: Mapping[str, Collector], seconds: float = SECONDS) -> Evidence:
    """Ask every collector what there is, and read it, for at most `seconds` and until Ctrl-C.

    collectors: what each is called -> what lists its readings; the first ones' readings come first.
    What cannot be had, or was cut off, is told in the file MISSING of the evidence and never raised.
    """
    begin = time.monotonic()
    gathering = _Gathering(ctx, begin + seconds)
    with progress(ctx.emit, "collecting evidence") as advance:
        gathering.go(collectors, advance)
    missing = tuple(f"{name}: {why}" for name, why in gathering.missing.items())
    if missing:
        gathering.write(MISSING, "\n".join(missing) + "\n")
    return Evidence(tuple(gathering.files), missing, time.monotonic() - begin)


class _Gathering:
    """Readings under way, with what has come of them."""

    def __init__(self, ctx: Context, deadline: float) -> None:
        self.ctx = ctx
        self.deadline = deadline
        self.files: list[Path] = []
        self.missing: dict[str, str] = {}
        self._todo: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()
        self._under_way: dict[str, None] = {}

    def go(self, collectors: Mapping[str, Collector], advance: Callable[[int], None]) -> None:
        """Read until there is no more, or no time."""
        # daemons, so that a reading which ignores its limit keeps nobody from going home
        for _ in range(_AT_ONCE):
            threading.Thread(target=self._work, daemon=True).start()
        why = _CUT_OFF
        try:
            for name, collector in collectors.items():
                self._begin(f"evidence of {name}", collector)
            while self._under_way and interrupt.until(self._taken, self._left()):
                advance(len(self.files))
        except KeyboardInterrupt:
            why = "cut off by Ctrl-C"
        finally:
            for _ in range(_AT_ONCE):
                self._todo.put(None)
        self.missing |= dict.fromkeys(self._under_way, why)

    def _taken(self, seconds: float | None) -> bool:
        """Whether something was there to take within so many seconds."""
        try:
            name, found = self._done.get(timeout=seconds)
        except queue.Empty:
            return False
        del self._under_way[name]
        self._take(name, found)
        return True

    def _begin(self, name: str, act: Callable[[], object]) -> None:
        self._under_way[name] = None
        self._todo.put((name, act))

    def _take(self, name: str, found: object) -> None:
        """What came of one item: a collector's readings, a reading's text, or what went wrong."""
        if isinstance(found, SlipwayError):
            self.missing[name] = " ".join([found.what, *found.tail.splitlines()[-1:]])
        elif isinstance(found, Exception):
            self.missing[name] = str(found) or type(found).__name__
        elif isinstance(found, str):
            self.write(name, found)
        elif isinstance(found, Sequence):
            for reading in found:
                self._begin(reading.name, partial(self._read, reading))

    def _read(self, reading: Reading) -> str:
        return reading.read(min(self._left(), READING_SECONDS))

    def write(self, name: str, text: str) -> None:
        """One file of evidence; none for an empty text. A full disk is one more reason to be told."""
        if not text.strip():
            return
        try:
            path = self.ctx.keep_evidence(name, text)
        except OSError as error:
            self.missing[name] = f"cannot be written: {error.strerror}"
        else:
            self.files.append(path)

    def _left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            name, act = item
            if self._left() == 0:
                return
            try:
                self._done.put((name, act()))
            except interrupt.Cancelled:
                return
            except Exception as error:  # noqa: BLE001  # told as the reason why this file is missing
                self._done.put((name, error))
