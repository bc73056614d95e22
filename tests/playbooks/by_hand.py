"""ansible-playbook as people start it: in a process of its own, which can be met, watched and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
LIMIT = 900.0  # seconds until a run, or what is waited for in it, counts as hanging


@dataclass
class ByHand:
    """A run that goes on. log: what it prints. journal: host and task, a line each, as they begin."""

    child: subprocess.Popen[bytes]
    log: Path
    journal: Path

    @property
    def pid(self) -> int:
        return self.child.pid

    def tasks(self, host: str = "") -> list[str]:
        """The tasks that have begun, as `role : task`, of one host or of all."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        begun = [line.partition("\t")[::2] for line in lines]
        return [task for name, task in begun if host in ("", name)]

    def reaches(self, task: str, host: str = "") -> bool:
        """Wait until a task begins, on one host or on any; False if the run ends before that."""
        return self.first_of([task], host) == task

    def first_of(self, tasks: Sequence[str], host: str = "") -> str:
        """Wait until one of these tasks begins: which. Empty if the run ends before that."""

        def there() -> str:
            return next((task for task in self.tasks(host) if task in tasks), "")

        self._wait(lambda: bool(there()) or self.child.poll() is not None, f"beginning of {tasks[0]}")
        return there()

    def kill(self) -> None:
        """SIGKILL for it and all that it has started here; what it left running on hosts goes on there."""
        os.killpg(self.child.pid, signal.SIGKILL)
        for number in _started_by(str(self.journal)):
            os.kill(number, signal.SIGKILL)
        self.child.wait(30)

    def ends(self) -> str:
        """What it printed, once it has ended well."""
        assert self._wait(lambda: self.child.poll() is not None, "its end")
        said = self.log.read_text(errors="replace")
        assert self.child.returncode == 0, said[-6000:]
        return said

    def fails(self) -> str:
        """What it printed, once it has failed."""
        assert self._wait(lambda: self.child.poll() is not None, "its end")
        assert self.child.returncode > 0, self.log.read_text(errors="replace")[-6000:]
        return self.log.read_text(errors="replace")

    def _wait(self, done: Callable[[], bool], what: str) -> bool:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if done():
                return True
            time.sleep(0.02)
        pytest.fail(f"no {what} within {LIMIT:g} s:\n{self.log.read_text(errors='replace')[-4000:]}")


def _started_by(journal: str) -> Iterator[int]:
    """Processes with this journal in their environment: Ansible's workers leave its session."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"SLIPWAY_JOURNAL={journal}".encode() in environ.split(b"\0"):
                yield int(entry.name)


@contextmanager
def by_hand(
    folder: Path, name: str, playbook: str, inventories: Sequence[Path], *words: str
) -> Iterator[ByHand]:
    """A run of a playbook, killed at the end if it still goes on. folder, name: of its log and journal."""
    log, journal = folder / f"{name}.log", folder / f"{name}.journal"
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), *words, playbook]
    for inventory in inventories:
        argv += ["--inventory", str(inventory)]
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "journal",
        "ANSIBLE_NOCOLOR": "1",
        "SLIPWAY_JOURNAL": str(journal),
        "LC_ALL": "C.UTF-8",
    }
    with log.open("wb") as file:
        child = subprocess.Popen(
            argv,
            cwd=PLAYBOOKS,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    run = ByHand(child, log, journal)
    try:
        yield run
    finally:
        if child.poll() is None:
            run.kill()
