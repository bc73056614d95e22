"""Kernel settings that all hosts of this machine share: raised for them, and put back after the last lab."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc/sys")
# Every host's systemd, containerd and kubelet watch files as the same user: at the usual 128 instances
# the third host or so ends without a word.
AT_LEAST = {"fs.inotify.max_user_instances": 8192, "fs.inotify.max_user_watches": 524288}


def before(recorded: Iterable[Mapping[str, str]], proc: Path = PROC) -> dict[str, str]:
    """What this machine had before its first lab: other labs' records first, else what it has now."""
    found: dict[str, str] = {}
    for others in recorded:
        for name, value in others.items():
            found.setdefault(name, value)
    for name in AT_LEAST:
        if name not in found and (value := _read(name, proc)):
            found[name] = value
    return found


def too_low(proc: Path = PROC) -> dict[str, str]:
    """Name and new value of what must be raised."""
    return {
        name: str(least)
        for name, least in AT_LEAST.items()
        if (value := _read(name, proc)).isdigit() and int(value) < least
    }


def put(values: Mapping[str, str], proc: Path = PROC) -> list[str]:
    """Set what differs. Returns the names of what was set."""
    changed: list[str] = []
    for name, value in values.items():
        if _read(name, proc) != value:
            with suppress(OSError):  # read-only in a container: nothing could have changed it either
                _file(name, proc).write_text(f"{value}\n")
                changed.append(name)
    return changed


def put_back(values: Mapping[str, str], proc: Path = PROC) -> list[str]:
    """Set what was raised back to these values, unless somebody set it anew meanwhile. Returns the names."""
    raised = {name: str(least) for name, least in AT_LEAST.items()}
    return put({name: value for name, value in values.items() if _read(name, proc) == raised.get(name)}, proc)


def _file(name: str, proc: Path) -> Path:
    return proc / name.replace(".", "/")


def _read(name: str, proc: Path) -> str:
    try:
        return _file(name, proc).read_text().strip()
    except OSError:
        return ""
