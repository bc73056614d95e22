"""A clock that stands still until somebody sleeps: takes the place of a module's `time`."""

from __future__ import annotations


class Clock:
    """`monkeypatch.setattr(module, "time", Clock())`: the module then waits for hours in no time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
