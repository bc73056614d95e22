"""One real lab for all chain tests: three hosts, a cluster, the deployment, made by `slipway up`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from slipway.core.state import State
from slipway.core.types import MADE_BY, dump
from slipway.hosts.nspawn.labs import lab_name

from tests.lab_traces import traces

SLIPWAY = Path(sys.executable).with_name("slipway")
PROJECT = Path(__file__).parents[2]
UP_LIMIT = 2400  # seconds; a stuck chain must not hold the suite for ever


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Project:
    """A user's project folder with its own slipway.yaml and state."""

    root: Path
    seen_argv: set[str] = field(default_factory=set)
    first: Finished | None = None

    @property
    def state(self) -> Path:
        return self.root / ".slipway"

    @property
    def latest(self) -> Path:
        return self.state / "runs" / "latest"

    @property
    def newest(self) -> Path | None:
        """The folder of the run that began last, whether it has a report or not."""
        folders = sorted(path for path in (self.state / "runs").glob("2*") if path.is_dir())
        return folders[-1] if folders else None

    def configure(self, text: str) -> None:
        (self.root / "slipway.yaml").write_text(text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SLIPWAY, *words],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, limit: float = UP_LIMIT) -> Finished:
        """Run `slipway WORDS` in the project and return how it ended; every argv on the machine is noted."""
        child = self.start(*words)
        watcher = threading.Thread(target=self._watch, args=(child,), daemon=True)
        watcher.start()
        try:
            out, err = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            pytest.fail(f"slipway {' '.join(words)} did not end in {limit} s:\n{err[-4000:]}")
        sys.stderr.write(err)
        return Finished(child.returncode, out, err)

    def _watch(self, child: subprocess.Popen[str]) -> None:
        """Note the command line of every process that lives while slipway runs."""
        while child.poll() is None:
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        self.seen_argv.add(
                            (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        )
                    except OSError:
                        continue
            time.sleep(0.05)

    def kill_when(self, marker: str, *words: str, limit: float = 900) -> None:
        """Start slipway and end it with SIGKILL, children of its session too, once its log shows `marker`."""
        child = self.start(*words)
        deadline = time.monotonic() + limit
        begun = time.time()
        try:
            while time.monotonic() < deadline:
                log = self.newest / "slipway.log" if self.newest is not None else None
                if (
                    log is not None
                    and log.exists()
                    and log.stat().st_mtime >= begun - 1
                    and marker in log.read_text(errors="replace")
                ):
                    return
                if child.poll() is not None:
                    pytest.fail(
                        f"slipway ended with {child.returncode} before {marker!r}: {child.communicate()[1][-4000:]}"
                    )
                time.sleep(0.05)
            pytest.fail(f"no {marker!r} within {limit} s")
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()

    def value(self, stage: str) -> Any:
        """What a stage handed on last, as plain data."""
        kind = next(kind for kind, made_by in MADE_BY.items() if made_by == stage)
        return json.loads(dump(State(self.state).kept(kind)))

    def report(self, name: str = "run.json") -> Any:
        return json.loads((self.latest / name).read_text())

    def kubectl(self, *words: str, input: str | None = None) -> str:
        cluster = self.value("provision")
        done = subprocess.run(
            [cluster["kubectl"], f"--kubeconfig={cluster['kubeconfig']}", *words],
            check=False,
            input=input,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def on_host(self, name: str, command: str) -> str:
        done = self.run("hosts", "ssh", name, command, limit=120)
        assert done.code == 0, f"{name}: {command}: {done.err}"
        return done.out

    def take_down(self) -> None:
        """`slipway down`, which must succeed and leave nothing of the lab on this machine."""
        done = self.run("down", limit=300)
        left = traces(lab_name(self.state))
        assert done.code == 0, f"down ended with {done.code}:\n{done.err[-4000:]}"
        assert left == []


def new_project(folder: Path, settings: str = "") -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(folder)
    project.configure(settings)
    return project


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose `up` was killed half-way once and then done again; taken down at the end."""
    project = new_project(tmp_path_factory.mktemp("lab"))
    try:
        project.kill_when("provision: ", "up")
        project.first = project.run("up")
        yield project
    finally:
        project.take_down()
