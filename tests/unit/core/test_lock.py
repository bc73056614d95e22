from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from slipway.core.errors import LockHeld, Timeout
from slipway.core.lock import flock, held
from slipway.core.state import State


def test_a_second_run_is_refused_and_told_who_owns_it(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    with held(state, "up"), pytest.raises(LockHeld) as caught, held(state, "down"):
        pass
    assert f"`slipway up`, process {os.getpid()}" in caught.value.what
    assert caught.value.exit_code == 3
    with held(state, "down"):
        pass


def test_a_full_disk_takes_no_lock_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`slipway down` makes room on it; who holds the lock is then not told."""

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    state = State(tmp_path / ".slipway")
    monkeypatch.setattr(os, "pwrite", refuse)
    with held(state, "down"), pytest.raises(LockHeld, match=r"another run$"), held(state, "up"):
        pass


@pytest.mark.parametrize("name", ["", "file"])
def test_a_folder_or_file_is_locked_by_one_at_a_time(tmp_path: Path, name: str) -> None:
    path, waited = tmp_path / name, []
    with (
        flock(path, "us", timeout=1),
        pytest.raises(Timeout, match="a lock on") as caught,
        flock(path, "us", timeout=0, on_wait=lambda: waited.append(1)),
    ):
        pass
    assert caught.value.tail == f"{path} is locked by us"
    assert waited == [1]
    with flock(path, "us", timeout=0):
        pass


def test_a_lock_without_a_limit_waits_for_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = contextlib.ExitStack()
    first.enter_context(flock(path, "us", timeout=0))
    with (
        flock(path, "us", timeout=None, on_wait=first.close),
        pytest.raises(Timeout),
        flock(path, "us", timeout=0),
    ):
        pass
