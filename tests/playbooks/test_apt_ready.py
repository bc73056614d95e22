"""Who uses apt, and for how long one waits for it."""

from __future__ import annotations

import fcntl
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import ended, load

apt_ready = load("modules/apt_ready.py")


def hold(path: str, held: Event, done: Event) -> None:
    with Path(path).open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        held.set()
        done.wait(60)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(apt_ready, "LOCKS", (str(tmp_path / "none"), str(path)))
    monkeypatch.setattr(apt_ready, "UPDATES", str(tmp_path / "updates"))
    return path


def test_who_holds_a_lock_is_told_with_number_and_program(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apt_ready.holder(apt_ready.LOCKS) == ""
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(lock), held, done))
    other.start()
    try:
        assert held.wait(60)
        said = ended(apt_ready, capsys, timeout=0)
        assert said["failed"] and f"apt is in use: process {other.pid}, " in said["msg"]
        assert (
            f"holds {lock} after 0 s of waiting" in said["msg"] and "  what to do: let it end" in said["msg"]
        )
        told = ended(apt_ready, capsys, timeout=0, required=False)
        assert not told.get("failed") and str(other.pid) in told["holder"]
    finally:
        done.set()
        other.join(60)
    free = ended(apt_ready, capsys, timeout=0)
    assert (free["holder"], free["waited"], free["interrupted"]) == ("", 0, False)


def test_it_waits_no_longer_than_it_has_to() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def wait(answers: list[str], timeout: float) -> Any:
        return apt_ready.wait(lambda: answers.pop(0) if answers else "", timeout, lambda: now, sleep)

    assert wait([], 600) == ("", "", 0.0)
    assert wait(["a", "a", "b"], 600) == ("", "a", 3.0)
    assert wait(["a"] * 9, 2) == ("a", "a", 2.0)


def test_a_program_is_named_without_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/comm").write_text("python3\n")
    (tmp_path / "7/cmdline").write_bytes(b"python3\0/usr/bin/unattended-upgrade\0--password=x\0")
    assert apt_ready.program(7, tmp_path) == "python3 (/usr/bin/unattended-upgrade)"
    (tmp_path / "7/cmdline").write_bytes(b"apt-get\0install\0-q\0")
    assert apt_ready.program(7, tmp_path) == "python3"
    assert apt_ready.program(8, tmp_path) == "a process that has just ended"


def test_dpkgs_journal_tells_that_it_was_interrupted(tmp_path: Path) -> None:
    assert not apt_ready.interrupted(tmp_path / "none")
    (tmp_path / "tmp.i").touch()
    assert not apt_ready.interrupted(tmp_path)
    (tmp_path / "0003").touch()
    assert apt_ready.interrupted(tmp_path)
