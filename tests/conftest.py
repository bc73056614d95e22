"""What every test gets: a pinned environment, quick tests first, an honest count of lab tests, and the times."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from slipway.core.state import cache_home
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ("tests.products",)
# Cheap before dear, so that a mistake shows early.
ORDER = ("unit", "integration", "stacks", "playbooks", "contract", "vm", "e2e")
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


@pytest.fixture(autouse=True)
def _signals() -> Generator[None, None, None]:
    """What a test's program does on a signal ends with the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # In one of several processes the chain comes first: it takes as long as all other labs, which run beside it.
    beside = hasattr(config, "workerinput")

    def place(item: pytest.Item) -> tuple[bool, int, bool]:
        folder = Path(str(item.fspath)).relative_to(Path(__file__).parent).parts[0]
        lab = item.get_closest_marker("lab") is not None
        first = beside and folder == ORDER[-1]
        return not first, (ORDER.index(folder) if folder in ORDER else len(ORDER)) + (10 if lab else 0), lab

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

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        lab = getattr(report, "lab", False)
        if report.skipped:
            self.skipped += lab
            if can_make_hosts():
                self.unexcused.append(report.nodeid)
        elif report.when == "call":
            self.ran += lab

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexcused and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.ran or self.skipped:
            terminalreporter.write_line(f"lab: {self.ran} ran, {self.skipped} skipped")
        for nodeid in self.unexcused:
            terminalreporter.write_line(f"skipped without excuse: {nodeid}", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in the report whether the test is marked lab: its keywords hold names of cases too."""
    report = yield
    report.lab = item.get_closest_marker("lab") is not None  # type: ignore[attr-defined]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that is skipped whole is a skip too; as an error it ends the run, in a process of its own too."""
    report = yield
    if report.skipped and can_make_hosts():
        report.outcome = "failed"
        report.longrepr = f"skipped without excuse: {report.nodeid}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With -n: a folder's tests run in one process, one after the other, so that what they share is made once."""
    return ByFolder(config, log)


class ByFolder(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return nodeid.rpartition("/")[0]


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
