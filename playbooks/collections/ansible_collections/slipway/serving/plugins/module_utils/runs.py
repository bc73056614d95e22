"""Who sets a host up: which run, on which machine, and whether it is still there."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_machine() -> str:
    """What tells this kernel and this set of process numbers from every other.

    The number of a process means nothing elsewhere.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return f"{platform.node()} {uuid.getnode()}"


def process(number: int) -> dict[str, Any]:
    """A process as it is kept on record: its number, and when it began, for numbers are used again."""
    return {"pid": number, "started": _fields(number)[19:20]}


def lives(kept: Mapping[str, Any]) -> bool:
    """Whether this very process is still there. On this machine, which the caller has made sure of."""
    try:
        os.kill(kept["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    fields = _fields(kept["pid"])
    return fields[19:20] == kept["started"] and fields[:1] not in (["Z"], ["X"])


def session() -> dict[str, Any] | None:
    """The process of sshd that this one was started through, which goes with its connection; None without."""
    number = os.getppid()
    while number > 1:
        try:
            name = Path(f"/proc/{number}/comm").read_text().strip()
            parent = int(_fields(number)[1])
        except (OSError, IndexError):
            return None
        if name.startswith("sshd"):  # sshd, and sshd-session since OpenSSH 9.8
            return process(number)
        number = parent
    return None


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records are of one run: of one Ansible, or of several that one program started."""
    if one["machine"] != other["machine"]:
        return False
    family = one["family"] is not None and one["family"] == other["family"]
    return family or any(each in other["processes"] for each in one["processes"])


def _fields(number: int) -> list[str]:
    """What the kernel tells of a process behind its name: state, parent and so on; the 20th is its start."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
