"""Holds tests/unit to its promise: a test here that starts a process or sleeps is red."""

from __future__ import annotations

import multiprocessing.process
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

# What CPython tells audit hooks when a process is about to start, whichever library asked for it.
STARTS = frozenset(
    {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
)
HERE = Path(__file__).parent
ELSEWHERE = (
    "tests/unit starts no process and sleeps nowhere: replace it, or move the test to tests/integration"
)


class _Guard:
    """What the running test did that it may not; audit hooks cannot be taken off, so there is one for all."""

    def __init__(self) -> None:
        self.on = False
        self.broken: list[str] = []
        self.real_sleep = time.sleep
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event in STARTS:
            self.refuse(f"{event}{arguments[:2]}")

    def sleep(self, seconds: float) -> None:
        """In the place of time.sleep; giving way to other threads for 0 seconds is no sleep."""
        if seconds > 0:
            self.refuse(f"time.sleep({seconds})")
        self.real_sleep(seconds)

    def refuse(self, what: str) -> None:
        self.broken.append(what)
        raise AssertionError(f"{what}: {ELSEWHERE}")


_guard = _Guard()


def _start(child: multiprocessing.process.BaseProcess) -> None:
    """In the place of BaseProcess.start, of which audit hooks are not always told."""
    _guard.refuse(f"{child}.start")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse both from a test's first fixture to the end of its last.

    pytest calls this one for the tests of every folder, unlike the hooks of setup, call and teardown.
    """
    if not item.path.is_relative_to(HERE):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", _guard.sleep)
        patch.setattr(multiprocessing.process.BaseProcess, "start", _start)
        patch.setattr(_guard, "on", True)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """A refusal that the code under test caught fails the test all the same."""
    ended = yield
    broken, _guard.broken = _guard.broken, []
    assert not broken, f"{broken[0]}: {ELSEWHERE}"
    return ended
