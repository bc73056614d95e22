"""What a play spends its time on: its slowest tasks, and how long no host was at work.

Ansible makes a process for each task on each host, and those that run no module cost as well. So beside the seconds
the number of results, one per task and host, tells what a play costs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

RESULTS = {"runner_on_ok", "runner_on_skipped", "runner_on_failed", "runner_on_unreachable"}


@dataclass
class Profile:
    """Collects the events of ansible-runner; times in seconds."""

    results: int = 0
    _spans: list[tuple[float, float]] = field(default_factory=list)
    _tasks: dict[str, dict[str, tuple[float, float]]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, event: Mapping[str, Any]) -> bool:
        """ansible-runner's event_handler; it is to keep no event."""
        data = event.get("event_data", {})
        if event.get("event") in RESULTS:
            self.results += 1
            begin, end = (datetime.fromisoformat(data[key]).timestamp() for key in ("start", "end"))
            name = f"{data['role']} : {data['task']}" if data.get("role") else str(data["task"])
            # one with this name in another role or play is another task
            before, after = self._tasks[data["task_uuid"]].get(name, (begin, end))
            self._tasks[data["task_uuid"]][name] = (min(before, begin), max(after, end))
            if _ran_a_module(data.get("res") or {}):
                self._spans.append((begin, end))
        return False

    def in_modules(self) -> float:
        """Seconds during which a module was at work on at least one host."""
        total, reached = 0.0, float("-inf")
        for begin, end in sorted(self._spans):
            total += max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        return total

    def slowest(self, count: int) -> dict[str, float]:
        """Tasks and their seconds, from the first host's start to the last one's end; the slowest first."""
        spent: dict[str, float] = defaultdict(float)
        for spans in self._tasks.values():
            for name, (begin, end) in spans.items():
                spent[name] += end - begin
        return dict(sorted(spent.items(), key=lambda item: -item[1])[:count])


def _ran_a_module(result: Mapping[str, Any]) -> bool:
    """A module tells what it was called with, or hides it; what Ansible does by itself tells nothing."""
    items = result.get("results", [])
    return "invocation" in result or "censored" in result or any("invocation" in item for item in items)


def profile(playbook: Path, inventory: Path) -> tuple[float, Profile]:
    """Run a playbook to its end. Returns its seconds and its profile; fails when the playbook does."""
    from ansible_runner import run

    seen = Profile()
    with tempfile.TemporaryDirectory(prefix="slip-play-") as private:
        begin = time.perf_counter()
        ended = run(
            private_data_dir=private,
            project_dir=str(playbook.parent),
            playbook=str(playbook.absolute()),
            inventory=str(inventory.absolute()),
            envvars={
                "ANSIBLE_CONFIG": str(playbook.absolute().parent / "ansible.cfg"),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "LC_ALL": "C.UTF-8",
            },
            event_handler=seen.take,
            quiet=True,
            suppress_env_files=True,
        )
        took = time.perf_counter() - begin
    assert ended.rc == 0, f"{playbook} ended with {ended.rc}"
    return took, seen
