#!/usr/bin/python
"""Ansible module: take a host for a run, so that a second run does not change it meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.slipway.serving.plugins.module_utils import runs

DOCUMENTATION = r"""
module: run_lock
short_description: A host for one run at a time
description:
  - Notes on the host which run sets it up, in C(/run/slipway/run.json), and fails where another one has it
    that is still going on, with its playbook, process, user and machine. A note counts for as long as its run
    goes on, so nothing is ever to be cleared away.
  - A run of the same controller goes on for as long as its process is there. Of a run of another one the
    host knows the SSH connection that took it, which may be kept open for some minutes after its end
    (C(ControlPersist)).
  - Plays that one C(slipway) started are one run. Changes nothing that lasts.
options:
  run:
    description: Which run this is. Filled in on the controller.
    type: dict
  over:
    description: The note's C(id) of a run that is known to have ended. Filled in on the controller.
    type: str
    default: ""
author: [slipway]
"""

EXAMPLES = r"""
- name: Take the host for this run
  slipway.serving.run_lock:
"""

RETURN = r"""
held_by:
  description: In words, which run has the host. Only where the task failed for it.
  type: str
  returned: when another run has the host
holder:
  description: The note of that run.
  type: dict
  returned: when another run has the host
"""

NOTE = Path("/run/slipway/run.json")


def goes_on(holder: Mapping[str, Any]) -> bool:
    """Whether a run of another controller does, as far as it can be told here."""
    if holder["machine"] == runs.this_machine():
        return any(runs.lives(each) for each in holder["processes"])
    return holder["session"] is not None and runs.lives(holder["session"])


def take(note: Path, run: Mapping[str, Any], over: str) -> dict[str, Any] | None:
    """Write this run's note. Gives that of the run which has the host instead, where there is one.

    Of a run of the same controller the host cannot tell whether it goes on; over has its id if not.
    Raises OSError where the note cannot be written.
    """
    note.parent.mkdir(mode=0o755, exist_ok=True)
    handle = os.open(note, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        holder = _read(file.read())
        processes = list(run["processes"])
        if holder is not None and runs.same(holder, run):
            processes += [each for each in holder["processes"] if each not in processes]
        elif holder is not None and holder["id"] != over:
            elsewhere = holder["machine"] != run["machine"]
            if not elsewhere or goes_on(holder):
                return holder
        file.seek(0)
        file.truncate()
        json.dump({**run, "processes": processes, "session": runs.session()}, file)
        return None


def _read(text: str) -> dict[str, Any] | None:
    """A note; None where there is none, or half of one."""
    try:
        found = json.loads(text)
        keys = ("id", "machine", "family", "processes", "session", "words")
        return {key: found[key] for key in keys}
    except (ValueError, KeyError, TypeError):
        return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={"run": {"type": "dict"}, "over": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    holder = None
    if not module.check_mode:
        try:
            holder = take(NOTE, module.params["run"], module.params["over"])
        except PermissionError as error:  # without root nothing else can be changed either
            module.exit_json(changed=False, skipped_reason=str(error))
    module.exit_json(changed=False, **({"holder": holder} if holder else {}))


if __name__ == "__main__":
    main()
