"""A clock that stands still until somebody sleeps: takes the place of a module's `time`."""

from __future__ import annotations

from types import ModuleType

import pytest
from slipway.core import interrupt


class Clock:
    """`monkeypatch.setattr(module, "time", Clock())`: the module then waits for hours in no time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def stopped(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Clock:
    """The clock of these modules, and of the pauses that they make."""
    clock = Clock()
    for module in (interrupt, *modules):
        monkeypatch.setattr(module, "time", clock)
    return clock
