"""A long run ends by saying where its time went; a short one says nothing of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.conftest import Times


def told(elapsed: float, **seconds: float) -> list[str]:
    """What is told of tests with these names, each with 1 s of set-up."""
    times = Times()
    for name, call in seconds.items():
        for when, duration in (("setup", 1.0), ("call", call), ("teardown", 0.0)):
            nodeid = f"tests/{name.partition('_')[0]}/test_it.py::test_{name}"
            report: Any = SimpleNamespace(nodeid=nodeid, when=when, duration=duration)
            times.pytest_runtest_logreport(report)
    return times.lines(elapsed)


def test_the_slowest_come_first_with_what_was_made_for_them() -> None:
    tests = {f"unit_{number}": float(number) for number in range(20)}
    lines = told(300, **tests, e2e_last=50.0)
    assert lines[1] == "    51 s  tests/e2e/test_it.py::test_e2e_last  (setup 1, call 50)"
    assert "test_unit_19 " in lines[2]
    assert len(lines) == 1 + Times.SLOWEST + 1


def test_every_folder_is_counted_and_the_rest_too() -> None:
    lines = told(100, unit_one=4.0, unit_two=5.0, e2e_one=50.0)
    assert lines[-1] == "time: unit 11 s, e2e 51 s, collecting and all else 38 s; 100 s in all"


def test_a_short_run_is_quiet() -> None:
    assert told(59, unit_one=4.0) == []
