"""What every test gets: a pinned environment, quick tests first, and an honest count of lab tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Cheap before dear, so that a mistake shows early.
ORDER = ("unit", "stacks", "playbooks", "contract", "e2e")


def pytest_configure(config: pytest.Config) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("SLIPWAY_") and name != "SLIPWAY_CACHE":
            del os.environ[name]
    os.environ["NO_COLOR"] = "1"
    os.environ["COLUMNS"] = "120"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> tuple[int, bool]:
        folder = Path(str(item.fspath)).relative_to(Path(__file__).parent).parts[0]
        lab = item.get_closest_marker("lab") is not None
        return (ORDER.index(folder) if folder in ORDER else len(ORDER)) + (10 if lab else 0), lab

    items.sort(key=place)
    engine = shutil.which("pulumi") is not None
    for item in items:
        if item.get_closest_marker("engine") and not engine:
            item.add_marker(pytest.mark.skip(reason="the Pulumi CLI is not on PATH"))
        elif item.get_closest_marker("lab") and not can_make_hosts():
            item.add_marker(pytest.mark.skip(reason="making hosts needs root and Linux"))


def can_make_hosts() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


class LabCount:
    """Counts lab tests; as root on Linux none of them may be skipped but those that need the engine."""

    def __init__(self) -> None:
        self.ran = self.skipped = 0
        self.unexcused: list[str] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        outcome = yield
        report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result
        if item.get_closest_marker("lab") is None:
            return
        if report.skipped:
            self.skipped += 1
            if item.get_closest_marker("engine") is None and can_make_hosts():
                self.unexcused.append(item.nodeid)
        elif report.when == "call":
            self.ran += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexcused and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.ran or self.skipped:
            terminalreporter.write_line(f"lab: {self.ran} ran, {self.skipped} skipped")
        for nodeid in self.unexcused:
            terminalreporter.write_line(f"lab test skipped without excuse: {nodeid}", red=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(LabCount(), "lab-count")
