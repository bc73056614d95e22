"""Ending what threads do: what Ctrl-C is to the main thread, an `Interrupt` is to the threads of a run.

Python raises KeyboardInterrupt in the main thread alone, and nothing can be raised from outside in a thread
that waits. So every wait of this process goes through here: the wait for a program, between two tries, for a
lock. Signals are for a whole process, and so is the one interrupt that is in force: threads that a stage
starts for itself hear of it too.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SLICE = 0.2  # seconds in which a waiting thread hears of it


class Cancelled(KeyboardInterrupt):
    """Nobody wants any more what this thread does. Nothing has gone wrong."""


class Interrupt:
    """A wish that threads end. Each is told once, so that what it does on its way out is done."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._told = threading.local()

    def ask(self) -> None:
        """Tell every thread; asked again, once more those that still clear up."""
        self._told = threading.local()
        self._asked.set()

    def withdraw(self) -> None:
        """Let threads that begin from now on be."""
        self._asked.clear()
        self._told = threading.local()

    @property
    def asked(self) -> bool:
        """Whether threads are to end."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raise Cancelled if this thread is to end and was not told yet."""
        if self._asked.is_set() and not self._knows:
            self._told.yes = True
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Sleep. Raises Cancelled as soon as this thread is to end."""
        if self._knows:
            time.sleep(seconds)
        else:
            self._asked.wait(seconds)
            self.check()

    @property
    def _knows(self) -> bool:
        return getattr(self._told, "yes", False)


_in_force: list[Interrupt] = []  # the last one holds


@contextmanager
def in_force(interrupt: Interrupt) -> Iterator[None]:
    """Let every thread of this process but the main one heed it, for as long as the block goes on."""
    _in_force.append(interrupt)
    try:
        yield
    finally:
        _in_force.remove(interrupt)


@contextmanager
def signals(heard: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM call `heard`, in the main thread, in the place of raising KeyboardInterrupt.

    A signal that is ignored, or ends the process as the system does it, is left so.
    """

    def handler(_number: int, _frame: FrameType | None) -> None:
        heard()

    before = {}
    if threading.current_thread() is threading.main_thread():  # others may set no handler
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: told for number, told in before.items() if callable(told)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, told in before.items():
            signal.signal(number, told)


def _mine() -> Interrupt | None:
    """What this thread heeds; the main thread has signals for that."""
    if not _in_force or threading.current_thread() is threading.main_thread():
        return None
    return _in_force[-1]


def check() -> None:
    """Raise Cancelled if this thread is to end. For work that takes long and waits for nothing."""
    interrupt = _mine()
    if interrupt is not None:
        interrupt.check()


def pause(seconds: float) -> None:
    """Sleep. Raises Cancelled as soon as this thread is to end."""
    interrupt = _mine()
    if interrupt is None:
        time.sleep(seconds)
    else:
        interrupt.pause(seconds)


def until(happened: Callable[[float | None], bool], timeout: float | None) -> bool:
    """Wait at most `timeout` seconds, None for ever; whether it happened.

    happened: waits for as many seconds as it is given and tells. Raises Cancelled as soon as this thread is
    to end.
    """
    if _mine() is None:
        return happened(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
        if happened(max(0.0, left)):
            return True
        check()
        if deadline is not None and time.monotonic() >= deadline:
            return False
