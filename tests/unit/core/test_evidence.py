"""Collecting evidence: side by side, never longer than its time, and what is missing is told."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from slipway.core.context import Context
from slipway.core.errors import CommandError
from slipway.core.events import Event, ProgressAdvanced
from slipway.core.evidence import MISSING, READING_SECONDS, Evidence, Reading, gather
from slipway.core.state import State


def collected(
    folder: Path, *readings: Reading, seconds: float = 60, emit: Callable[[Event], None] = lambda _event: None
) -> tuple[Evidence, dict[str, str]]:
    """What comes of these readings, and the text of each file of it."""
    ctx = Context(State(folder), folder / "run", folder, emit=emit)
    found = gather(ctx, {"toy": lambda: readings}, seconds)
    root = folder / "run" / "evidence"
    return found, {str(path.relative_to(root)): path.read_text() for path in found.files}


def says(name: str, text: str = "why") -> Reading:
    return Reading(name, lambda seconds: text)


def fails(name: str, error: BaseException) -> Reading:
    def read(seconds: float) -> str:
        raise error

    return Reading(name, read)


def test_each_reading_is_a_file_and_an_empty_one_is_none(tmp_path: Path) -> None:
    found, files = collected(tmp_path, says("hosts/a.log", "\udcff"), says("b.log"), says("c.log", " \n"))
    assert files == {"hosts/a.log": "?", "b.log": "why"}
    assert found.missing == ()


def test_what_cannot_be_had_is_told_with_its_reason(tmp_path: Path) -> None:
    refused = CommandError(("kubectl", "get"), 1, "many\nUnable to connect")
    found, files = collected(
        tmp_path, fails("a.log", refused), fails("b.log", ValueError("odd")), fails("c", OSError())
    )
    assert sorted(found.missing) == [
        "a.log: `kubectl get` failed: exit code 1 Unable to connect",
        "b.log: odd",
        "c: OSError",
    ]
    assert sorted(files[MISSING].splitlines()) == sorted(found.missing)


def test_readings_run_side_by_side(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=30)

    def read(seconds: float) -> str:
        both.wait()  # broken, and so an exception, where one is read after the other
        return "there"

    _, files = collected(tmp_path, Reading("a", read), Reading("b", read))
    assert files == {"a": "there", "b": "there"}


def test_a_reading_that_ignores_its_limit_is_left_behind(tmp_path: Path) -> None:
    let_go = threading.Event()

    def stuck(seconds: float) -> str:
        let_go.wait()
        return ""

    found, files = collected(tmp_path, says("quick.log"), Reading("stuck.log", stuck), seconds=0.5)
    let_go.set()
    assert files["quick.log"] == "why"
    assert files[MISSING].startswith("stuck.log: cut off: collecting evidence ends after ")
    assert len(found.missing) == 1


def test_what_no_time_is_left_for_is_not_begun(tmp_path: Path) -> None:
    found, files = collected(tmp_path, says("late.log"), seconds=0)
    assert list(files) == [MISSING]
    assert len(found.missing) == 1


def test_each_reading_is_told_its_own_limit(tmp_path: Path) -> None:
    _, files = collected(tmp_path, Reading("seconds", lambda seconds: f"{seconds:g}"))
    assert files == {"seconds": f"{READING_SECONDS:g}"}
    _, files = collected(tmp_path, Reading("seconds", lambda seconds: f"{seconds:g}"), seconds=5)
    assert float(files["seconds"]) <= 5


def test_ctrl_c_ends_the_collecting_and_not_the_run(tmp_path: Path) -> None:
    def interrupting(event: Event) -> None:
        if isinstance(event, ProgressAdvanced):
            raise KeyboardInterrupt

    never = threading.Event()

    def stuck(seconds: float) -> str:
        never.wait(30)
        return ""

    found, _ = collected(tmp_path, says("a.log"), Reading("b.log", stuck), emit=interrupting)
    never.set()
    assert "b.log: cut off by Ctrl-C" in found.missing


def test_a_full_disk_is_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_words: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    found, files = collected(tmp_path, says("a.log"))
    assert (found.missing, files) == (("a.log: cannot be written: No space left on device",), {})


def test_a_collector_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    def broken() -> Sequence[Reading]:
        raise RuntimeError("no such lab")

    ctx = Context(State(tmp_path), tmp_path / "run", tmp_path)
    found = gather(ctx, {"hosts": broken, "deploy": lambda: [says("deploy/a.log")]})
    assert found.missing == ("evidence of hosts: no such lab",)
    assert [path.name for path in found.files] == ["a.log", MISSING]
