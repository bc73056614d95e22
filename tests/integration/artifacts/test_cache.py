"""Two processes and one cache: an entry is made once, and a killed maker leaves nothing in the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

from slipway.artifacts import cache
from slipway.core.context import Context
from slipway.core.state import State


def _make_slowly(folder: Path, counter: Path) -> None:
    (folder / "tool").write_bytes(b"program")
    with counter.open("a") as file:
        file.write("made\n")
    time.sleep(0.3)


def _child(root: Path, counter: Path) -> None:
    ctx = Context(State(root / "state"), root / "run", root, cache=root / "cache")
    cache.entry(ctx, "tool", "k", lambda folder: _make_slowly(folder, counter))


def test_two_runs_make_it_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    children = [
        multiprocessing.get_context("fork").Process(target=_child, args=(tmp_path, counter)) for _ in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert counter.read_text() == "made\n"


def _hang(root: Path, started: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        started.write_text("")
        time.sleep(600)

    ctx = Context(State(root / "state"), root / "run", root, cache=root / "cache")
    cache.entry(ctx, "tool", "k", make)


def test_kill_in_the_middle_leaves_nothing_in_the_way(lab, tmp_path: Path) -> None:
    started = tmp_path / "started"
    child = multiprocessing.get_context("fork").Process(target=_hang, args=(tmp_path, started))
    child.start()
    deadline = time.monotonic() + 120
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert list((tmp_path / "cache" / "artifacts").glob(".tool-k.*/half"))  # it was in the middle
    made: list[int] = []

    def make(folder: Path) -> None:
        made.append(1)
        (folder / "tool").write_bytes(b"program")

    folder = cache.entry(lab.ctx, "tool", "k", make)
    assert made == [1]
    assert sorted(p.name for p in folder.parent.iterdir()) == [".tool-k.lock", "tool-k"]
