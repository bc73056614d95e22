"""What the controller adds to module run_lock: who it is, and whether a run of its own goes on."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.serving.plugins.module_utils import runs

# Set by who starts several plays as one run: the number of its own process
FAMILY = "SLIPWAY_RUN_PROCESS"


def this_run() -> dict[str, Any]:
    """The note of the run that this task is part of."""
    # a task has a process of its own, which is gone after it
    parent = multiprocessing.parent_process()
    number = os.getpid() if parent is None else parent.pid or os.getpid()
    family = os.environ.get(FAMILY, "")
    started_by = f", which slipway (process {family}) started" if family else ""
    playbooks = " ".join(Path(name).name for name in context.CLIARGS.get("args", ()))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {
        "id": uuid.uuid4().hex,
        "machine": runs.this_machine(),
        "family": runs.process(int(family)) if family.isdecimal() else None,
        "processes": [runs.process(number)],
        "words": f"ansible-playbook {playbooks}, process {number} of {getpass.getuser()}"
        f" on {socket.gethostname()}{started_by}, since {now}",
    }


def refusal(host: str, holder: dict[str, Any], *, here: bool) -> str:
    """What people read. here: whether the holder is a run of this controller."""
    ends = "wait for it to end, or end it there (Ctrl-C)"
    if not here:
        ends += "; the host counts as its own until its SSH connection closes, some minutes after its end"
    return f"{host} is being set up by another run\n  which: {holder['words']}\n  what to do: {ends}"


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """See module run_lock."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the host, also from a run of this controller that has ended."""
        super().run(tmp, task_vars)
        run = this_run()

        def ask(over: str) -> dict[str, Any]:
            arguments = {"run": run, "over": over}
            answer: dict[str, Any] = self._execute_module(
                "slipway.serving.run_lock", arguments, task_vars=task_vars
            )
            return answer

        answer, over = ask(""), ""
        # once more where another run was quicker to take it
        for _ in range(3):
            holder = answer.get("holder")
            if not holder:
                return answer
            here = holder["machine"] == run["machine"]
            if not here or any(runs.lives(each) for each in holder["processes"]):
                break
            over = holder["id"]
            answer = ask(over)
        host = str((task_vars or {}).get("inventory_hostname", ""))
        return {**answer, "failed": True, "held_by": holder["words"], "msg": refusal(host, holder, here=here)}
