"""The cgroups of a host where systemd does not keep them, and the end of what runs in them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from slipway.core.errors import HostError


def folders(name: str, memberships: str, mounts: str) -> tuple[Path, ...]:
    """The folder `name` below this process's own cgroup, in each mounted hierarchy.

    memberships: /proc/self/cgroup. mounts: /proc/self/mountinfo.
    """
    where: dict[str, Path] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        point = Path(before.split()[4])
        if kind == "cgroup2":
            where.setdefault("", point)
        elif kind == "cgroup":
            for option in options.split()[-1].split(","):
                where.setdefault(option, point)
    found: list[Path] = []
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        point_of = where.get(controllers.split(",")[0])
        if point_of is not None:
            found.append(point_of / path.lstrip("/") / name)
    return tuple(dict.fromkeys(found))


def own_folders(name: str) -> tuple[Path, ...]:
    """`folders` for this process as it is now."""
    return folders(name, Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())


def make(paths: Iterable[Path]) -> None:
    """Make the folders, usable at once."""
    for path in paths:
        inherit = path.parent / "cgroup.clone_children"
        if (path.parent / "cpuset.cpus").exists() and inherit.exists():
            inherit.write_text("1")  # a v1 cpuset is born without cpus, and takes no process then
        path.mkdir(exist_ok=True)


def members(paths: Iterable[Path]) -> set[int]:
    """The processes in these folders and below."""
    found: set[int] = set()
    for path in paths:
        for folder, _, _ in os.walk(path):  # takes it quietly when a group goes meanwhile
            with suppress(OSError):
                found |= {int(word) for word in Path(folder, "cgroup.procs").read_text().split()}
    return found - {0}


def end(paths: Iterable[Path], timeout: float = 30.0) -> int:
    """Kill everything in these folders and remove them. Returns the number of processes.

    The host's own first process goes first, so that nspawn sees its guest end and clears up after it;
    what is left a moment later is killed too. Raises HostError naming what does not end within
    `timeout` seconds.
    """
    groups = tuple(paths)
    names = {path.name for path in groups}
    seen: set[int] = set()
    started = time.monotonic()
    while alive := members(groups):
        seen |= alive
        if time.monotonic() > started + timeout:
            raise HostError(
                f"{len(alive)} processes of the host do not end",
                tail="\n".join(map(_describe, sorted(alive))),
                action="look at them; one stuck in the kernel (state D) ends with what it waits for, or a "
                "reboot",
            )
        firsts = {pid for pid in alive if _is_first_of_guest(pid)}
        patient = firsts or time.monotonic() < started + 1
        for pid in firsts if patient else alive:
            _kill(pid, names)
        time.sleep(0.05)
    for path in groups:
        _remove(path, started + timeout)
    return len(seen)


def _kill(pid: int, names: set[str]) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            # looked up again behind the handle: the number cannot pass to another process in between
            if names & _groups_of(pid):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _groups_of(pid: int) -> set[str]:
    """Every folder name on the way to the process's cgroups."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        return {part for line in lines for part in line.split(":", 2)[2].split("/")}
    return set()


def _is_first_of_guest(pid: int) -> bool:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) == 2 and numbers[1] == "1"
    return False


def _remove(path: Path, deadline: float) -> None:
    while path.is_dir():
        for folder in [*sorted(path.rglob("*/"), key=lambda found: -len(found.parts)), path]:
            if folder.is_dir():
                with suppress(OSError):  # busy for a moment after its last process
                    folder.rmdir()
        if path.is_dir():
            if time.monotonic() > deadline:
                raise HostError(
                    f"the cgroup {path} cannot be removed",
                    action=f"look what is in it: `find {path} -name cgroup.procs | xargs cat`; then "
                    "`slipway down`",
                )
            time.sleep(0.05)


def _describe(pid: int) -> str:
    with suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}"
    return str(pid)
