#!/usr/bin/python
"""Ansible module: wait until nobody else uses apt, and say who does."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: apt_ready
short_description: Wait until nobody else uses apt
description:
  - Looks at the locks of apt and dpkg, waits while another process holds one, such as unattended-upgrades,
    and fails when the time is up, with the number of that process, its program and the file.
  - Tells whether dpkg was interrupted in the middle of its work, after which it asks for
    C(dpkg --configure -a). Changes nothing.
options:
  timeout:
    description: Seconds to wait. With 0 it looks once.
    type: float
    default: 600
  required:
    description: Whether to fail when the time is up; otherwise C(holder) tells.
    type: bool
    default: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Wait until nobody else uses apt
  slipway.serving.apt_ready:
    timeout: 300
"""

RETURN = r"""
waited: {description: Seconds., type: float, returned: always}
holder:
  description: In words, who holds which lock, at the end; empty if nobody does.
  type: str
  returned: always
interrupted: {description: Whether dpkg was interrupted in its work., type: bool, returned: always}
"""

# In the order in which apt takes them
LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
UPDATES = "/var/lib/dpkg/updates"
LOOKS = 1.0  # seconds from one look to the next
# struct flock of Linux with 64 bit: type, whence, start, length, process
_FLOCK = "hhqqi4x"


def holder_of(path: str) -> int | None:
    """The number of the process that holds a lock of fcntl's kind on a file; None if nobody does.

    0 if it cannot be seen from here.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, number = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    finally:
        os.close(handle)
    return None if kind == fcntl.F_UNLCK else max(0, int(number))


def program(number: int, proc: Path = Path("/proc")) -> str:
    """What a process runs: its name, and the script where it is an interpreter's. Never its arguments."""
    try:
        name = (proc / str(number) / "comm").read_text().strip()
        words = (proc / str(number) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "a process that has just ended"
    script = next((word.decode(errors="replace") for word in words[1:2] if word.startswith(b"/")), "")
    return f"{name} ({script})" if script else name


def holder(locks: Sequence[str]) -> str:
    """In words, who holds the first of these locks that is held; empty if nobody holds one."""
    for path in locks:
        number = holder_of(path)
        if number is not None:
            who = (
                f"process {number}, {program(number)},"
                if number
                else "a process that cannot be seen from here"
            )
            return f"{who} holds {path}"
    return ""


def wait(
    look: Callable[[], str],
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, str, float]:
    """Who holds a lock at the end, who did at the beginning, and the seconds waited."""
    began = clock()
    first = last = look()
    while last and clock() - began < timeout:
        sleep(min(LOOKS, timeout))
        last = look()
    return last, first, clock() - began if first else 0.0


def interrupted(updates: Path) -> bool:
    """Whether dpkg left a journal of work that it did not finish."""
    return updates.is_dir() and any(path.name.isdecimal() for path in updates.iterdir())


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "float", "default": 600.0},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    timeout: float = module.params["timeout"]
    last, first, waited = wait(lambda: holder(LOCKS), timeout)
    told: dict[str, Any] = {"waited": round(waited, 1), "holder": last}
    if last and module.params["required"]:
        module.fail_json(
            msg=f"apt is in use: {last} after {waited:.0f} s of waiting\n"
            f"  where: {os.uname().nodename}\n"
            "  what to do: let it end (`systemctl status apt-daily-upgrade` shows unattended-upgrades) and "
            "run the same command again, or wait for longer (apt_source_lock_seconds)",
            **told,
        )
    if waited >= LOOKS:
        module.warn(f"waited {waited:.0f} s for apt: {first}")
    module.exit_json(changed=False, interrupted=interrupted(Path(UPDATES)), **told)


if __name__ == "__main__":
    main()
