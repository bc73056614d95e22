"""Ctrl-C and SIGTERM end a run whose stages are side by side: threads, children and children's children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A play, whose workers leave their process group; a program with a child of its own, as training is; and a
# thread pool that waits. The chain is the command line's own but for its stages.
PROGRAM = """
import signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from slipway import pipeline
from slipway.cli import main
from slipway.clients import ansible_play
from slipway.core import process
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.types import Cluster, ExportedModel, Hosts, Outcome

HERE = Path(sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # what started this may have it ignored

class Play:
    title = "Play"
    __module__ = "slipway.hosts.stage"
    def run(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        ansible_play.play(HERE / "book.yml", HERE / "inventory.yml", ctx.evidence("site.log"))
    def plan(self, ctx: Context) -> list[str]:
        return []

class Train:
    title = "Train"
    __module__ = "slipway.model.stage"
    def run(self, ctx: Context, settings: Settings) -> Outcome[ExportedModel]:
        def one(name):
            process.run(["sh", "-c", f"sleep 300 & echo $! > {HERE}/new-{name}; mv {HERE}/new-{name} {HERE}/{name}; wait"])
        with ThreadPoolExecutor() as pool:
            list(pool.map(one, ["first", "second"]))
    def plan(self, ctx: Context) -> list[str]:
        return []

class Later:
    title = "Later"
    __module__ = "slipway.provision.stage"
    def run(self, ctx: Context, hosts: Hosts) -> Outcome[Cluster]:
        raise AssertionError
    def plan(self, ctx: Context) -> list[str]:
        return []

stages = (Play(), Later(), Train())
for verb in (pipeline.run, pipeline.require_ready):
    verb.__kwdefaults__["stages"] = stages
try:
    main()
finally:
    print("threads:", [one.name for one in threading.enumerate() if one is not threading.main_thread()])
"""
BOOK = """
- name: Here
  hosts: all
  gather_facts: false
  tasks:
    - name: Stay
      ansible.builtin.command: sh -c 'echo $$ > {here}/new; mv {here}/new {here}/play; exec sleep 300'
"""
INVENTORY = (
    "all:\n  hosts:\n    here: {ansible_connection: local, ansible_python_interpreter: /usr/bin/python3}\n"
)
BEGIN = 240  # seconds; for a busy machine


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_ends_with_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "book.yml").write_text(BOOK.format(here=tmp_path))
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path, "up"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        begun = [tmp_path / name for name in ("play", "first", "second")]
        deadline = time.monotonic() + BEGIN
        while not all(file.exists() for file in begun) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        children = [int(file.read_text()) for file in begun if file.exists()]
        os.kill(run.pid, number)  # this process alone, as a supervisor does
        out, err = run.communicate(timeout=BEGIN)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    assert len(children) == 3, err
    assert run.returncode == 130, err
    assert "error: interrupted during " in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert "threads: []" in out
    assert [pid for pid in children if alive(pid)] == []
    report = json.loads((tmp_path / ".slipway" / "runs" / "latest" / "run.json").read_text())
    assert [(stage["name"], stage["status"]) for stage in report["stages"]] == [
        ("hosts", "failed"),
        ("provision", "not_run"),
        ("model", "failed"),
    ]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"  # nobody may be there to reap it
    except FileNotFoundError:
        return False
