"""What every test gets: a pinned environment, quick tests first, an honest count of lab tests, and the times."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway.core.state import cache_home

pytest_plugins = ("tests.products",)
# Cheap before dear, so that a mistake shows early.
ORDER = ("unit", "integration", "stacks", "playbooks", "contract", "e2e")
# Below this no lab gets through: three hosts with their images take more, and kubelets evict what runs. More
# than this is not asked for, since a full cache and a lab that is there already need less than a first run.
LAB_DISK_BYTES = 6_000_000_000


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
    for item in items:
        if item.get_closest_marker("lab") and not can_make_hosts():
            item.add_marker(pytest.mark.skip(reason="making hosts needs root and Linux"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """End at once where a full disk would fail every lab test for a reason none of them tells."""
    gc.freeze()  # thousands of tests stay to the end; looking through them again and again took a tenth of the time
    lab = any(item.get_closest_marker("lab") for item in session.items)
    if lab and can_make_hosts() and not session.config.option.collectonly:
        # the labs' state goes where pytest makes its folders
        complaint = short_of_disk(
            [Path(session.config.option.basetemp or tempfile.gettempdir()), cache_home()]
        )
        if complaint:
            pytest.exit(complaint, returncode=3)


def short_of_disk(folders: list[Path]) -> str:
    """Say which folder, existing yet or not, has too little disk for lab tests; empty if none has."""
    for folder in folders:
        there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
        free = shutil.disk_usage(there).free
        if free < LAB_DISK_BYTES:
            return (
                f"lab tests need {LAB_DISK_BYTES / 1e9:.0f} GB of free disk, {there} has {free / 1e9:.1f} GB: "
                'free some, set TMPDIR and SLIPWAY_CACHE to a larger disk, or leave them out (-m "not lab")'
            )
    return ""


def can_make_hosts() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


class LabCount:
    """Counts lab tests; as root on Linux no test may be skipped."""

    def __init__(self) -> None:
        self.ran = self.skipped = 0
        self.unexcused: list[str] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        outcome = yield
        report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result
        lab = item.get_closest_marker("lab") is not None
        if report.skipped:
            self.skipped += lab
            if can_make_hosts():
                self.unexcused.append(item.nodeid)
        elif report.when == "call":
            self.ran += lab

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped and can_make_hosts():  # a whole file
            self.unexcused.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexcused and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.ran or self.skipped:
            terminalreporter.write_line(f"lab: {self.ran} ran, {self.skipped} skipped")
        for nodeid in self.unexcused:
            terminalreporter.write_line(f"skipped without excuse: {nodeid}", red=True)


class Times:
    """Where the time of a run went: the slowest tests, with what they made first, and each folder."""

    SLOWEST = 10
    WORTH_TELLING = 60.0  # seconds; of a shorter run nobody asks

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.tests: dict[str, dict[str, float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        phases = self.tests.setdefault(report.nodeid, {})
        phases[report.when or ""] = report.duration

    def lines(self, elapsed: float) -> list[str]:
        """The slowest tests and one line of all folders. elapsed: seconds since the run began."""
        if elapsed < self.WORTH_TELLING:
            return []
        whole = {nodeid: sum(phases.values()) for nodeid, phases in self.tests.items()}
        out = [
            f"{self.SLOWEST} slowest tests (what is made for several counts for the first, its end for the last):"
        ]
        for nodeid in sorted(whole, key=lambda name: -whole[name])[: self.SLOWEST]:
            parts = ", ".join(
                f"{phase} {seconds:.0f}" for phase, seconds in self.tests[nodeid].items() if seconds >= 0.5
            )
            out.append(f"{whole[nodeid]:6.0f} s  {nodeid}  ({parts})")
        folders: dict[str, float] = {}
        for nodeid, seconds in whole.items():
            folder = nodeid.removeprefix("tests/").partition("/")[0]
            folders[folder] = folders.get(folder, 0.0) + seconds
        told = [f"{folder} {seconds:.0f} s" for folder, seconds in folders.items()]
        told.append(f"collecting and all else {max(0.0, elapsed - sum(folders.values())):.0f} s")
        return [*out, f"time: {', '.join(told)}; {elapsed:.0f} s in all"]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.lines(time.monotonic() - self.begun):
            terminalreporter.write_line(line)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(LabCount(), "lab-count")
    session.config.pluginmanager.register(Times(), "times")
