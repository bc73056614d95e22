"""The memory that requests may take: measured by the control group's limit, claimed before it is used.

Bytes on the wire say little about what a request costs: two bytes of JSON make a list, two bytes of a
message an empty string, and each takes fifty in memory. So whoever handles a request claims what it will take
at most before anything is built, and is refused when there is no room.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway_server.codes import Code, StatusError

MIB = 1024 * 1024
WAIT_SECONDS = 2.0  # for room that other requests may give back meanwhile
_LARGEST_MESSAGE = 64 * MIB
_READER_AT_REST = 32 * MIB
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # mallopt(3)


class Full(StatusError):
    """No room for a request now, or ever when it alone needs more than there is."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, message)


@dataclass(frozen=True)
class Limits:
    """Bytes. body: of one REST request, unpacked. message: of one gRPC request.

    requests: what all requests under way may claim together. reader: of the process that reads REST bodies.
    """

    body: int
    message: int
    requests: int
    reader: int


def limits(body: int, available: int, at_rest: int) -> Limits:
    """What can be served with `available` bytes, of which the server without requests takes `at_rest`.

    A sixteenth of what is left is for claims. Messages that are still arriving, what the models compute and
    what the allocator keeps take a few times as much. The rest stays free: near its limit a server is one
    page from being ended. With too little memory there is a least of everything: the server then works for
    small requests and may be ended by large ones.
    """
    reader = _READER_AT_REST + 14 * body  # a body of numbers takes about eight times its size, of lists more
    requests = max((available - at_rest - reader) // 16, 4 * body, 32 * MIB)
    return Limits(body, max(4 * MIB, min(_LARGEST_MESSAGE, requests // 4)), requests, reader)


def available(root: Path = Path("/")) -> int:
    """Bytes this process may use: the lowest of its control groups' limits and the machine's memory."""
    found = [_machine(root)]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the host's, of which only the end or nothing is to be seen here.
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):
            value = _text(folder.joinpath(*parts[:depth], file)).strip()
            if value.isdecimal():  # not "max"
                found.append(int(value))
    return min(found)


def resident() -> int:
    """Bytes of memory that this process alone has: pages of files the kernel takes back by itself."""
    pages, of_files = _statm()
    return (pages - of_files) * _PAGE


def of_files() -> int:
    """Bytes of programs and libraries that this process has in memory."""
    return _statm()[1] * _PAGE


def keep_little() -> None:
    """Have the C library give large blocks back as soon as they are freed; it would learn to keep them."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such knobs
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, MIB)
        library.mallopt(_TRIM_THRESHOLD, MIB)
        library.mallopt(_ARENA_MAX, 2)


def give_back() -> None:
    """Have the C library return what it keeps for later."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def leave_files() -> None:
    """Leave the pages of programs and libraries; those that are still used come back by themselves.

    To start takes 250 MB of TensorFlow's library, to serve a tenth of that. The pages stay in the kernel's
    cache as long as nobody needs the room, and no longer count as this process's.
    """
    with contextlib.suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        for start, size in files_read(Path("/proc/self/smaps").read_text(encoding="utf-8")):
            advise(ctypes.c_void_p(start), ctypes.c_size_t(size), _DONTNEED)


def files_read(smaps: str) -> list[tuple[int, int]]:
    """Address and bytes of the parts of /proc/PID/smaps that are as their files have them.

    Not what may be written, nor what was written before it was protected: that is nowhere else.
    """
    found = []
    for part in _PART.finditer(smaps):
        dirty = re.search(r"^Private_Dirty: +0 kB$", part["told"], re.MULTILINE)
        if "w" not in part["may"] and part["file"].startswith("/") and dirty:
            start, end = int(part["start"], 16), int(part["end"], 16)
            found.append((start, end - start))
    return found


class Budget:
    """Bytes that all requests under way may claim together. Claims may grow in any thread."""

    def __init__(self, total: int, at_rest: int, measure: Callable[[], int] = resident) -> None:
        """at_rest: bytes of the process without requests. measure: bytes it has now."""
        self.total = total
        self.at_rest = at_rest
        self.claimed = 0
        self._measure = measure
        self._changing = threading.Lock()
        self._freed = asyncio.Event()
        self._waiting = 0

    def claim(self, size: int = 0) -> Claim:
        """Raises Full."""
        claim = Claim(self)
        claim.grow(size)
        return claim

    async def wait(self, claim: Claim, size: int) -> None:
        """Grow a claim, waiting shortly for room. Raises Full."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while True:
            freed = self._freed
            try:
                return claim.grow(size)
            except Full:
                if size > self.total or asyncio.get_running_loop().time() >= deadline:
                    raise
            self._waiting += 1
            try:
                async with asyncio.timeout_at(deadline):
                    await freed.wait()
            except TimeoutError:
                continue  # one more look, then it is refused
            finally:
                self._waiting -= 1

    @property
    def used(self) -> int:
        """Bytes the process has beyond those at rest: claimed, still arriving, or not given back."""
        return self._measure() - self.at_rest

    def take(self, size: int) -> None:
        with self._changing:
            if self.claimed + size > self.total:
                raise Full(
                    f"the request needs {size} bytes of memory more; all requests together may have "
                    f"{self.total}, of which {self.claimed} are taken"
                )
            if size > MIB and self.used + size > 2 * self.total:
                raise Full(f"the request needs {size} bytes of memory more, which the server has not now")
            self.claimed += size

    def took(self, size: int) -> bool:
        with self._changing:
            if self.claimed + size > self.total:
                return False
            self.claimed += size
            return True

    def give(self, size: int) -> None:
        """Called in the event loop only: it wakes those who wait."""
        with self._changing:
            self.claimed -= size
        if self._waiting:
            freed, self._freed = self._freed, asyncio.Event()
            freed.set()


class Claim:
    """What one request has claimed. A context that gives it back; so does `release`, once or more often."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, size: int) -> None:
        """Raises Full; then nothing has changed."""
        self._budget.take(size)
        self.size += size

    def grown(self, size: int) -> bool:
        """`grow` if there is plenty of room, and whether there was: the short way of most requests."""
        if size > MIB or not self._budget.took(size):
            return False
        self.size += size
        return True

    def release(self) -> None:
        size, self.size = self.size, 0
        if size:
            self._budget.give(size)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_PAGE = os.sysconf("SC_PAGE_SIZE")
_DONTNEED = 4  # madvise(2)
_PART = re.compile(
    r"^(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<may>\S+) \S+ \S+ \d+ +(?P<file>.*)\n"
    r"(?P<told>(?:\w+:.*\n)*)",
    re.MULTILINE,
)


def _statm() -> tuple[int, int]:
    """Pages of this process, and how many of them are of files."""
    with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123  # often: no object for a path
        _, pages, of_files, *_ = file.read().split()
        return int(pages), int(of_files)


def _machine(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 2**63


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
