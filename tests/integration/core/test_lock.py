"""The lock between processes: it ends with its holder and is not inherited."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from slipway.core import process
from slipway.core.errors import LockHeld
from slipway.core.lock import held
from slipway.core.state import State


def test_a_killed_run_leaves_nothing_to_clear_away(tmp_path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from slipway.core.lock import held; from slipway.core.state import State\n"
        f"with held(State(Path({str(tmp_path / '.slipway')!r})), 'up'):\n"
        f"    Path({str(tmp_path / 'held')!r}).touch(); time.sleep(600)\n"
    )
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", script], os.environ)
    deadline = time.monotonic() + 120
    while not (tmp_path / "held").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    state = State(tmp_path / ".slipway")
    with pytest.raises(LockHeld, match=str(pid)), held(state, "up"):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with held(state, "up"):
        pass


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    with held(state, "up"):
        child = int(process.run(["sh", "-c", "sleep 8 >/dev/null 2>&1 & echo $!"]).stdout)
    try:
        with held(state, "up"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
