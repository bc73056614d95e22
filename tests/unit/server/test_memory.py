"""What the control groups allow, what follows from it, and claims on it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway_server import memory
from slipway_server.codes import Code
from slipway_server.memory import MIB, Budget, Full

GIB = 1024 * MIB


def machine(root: Path, groups: str, **files: str) -> Path:
    """A root folder with 4 GiB, these lines in /proc/self/cgroup, and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemFree: 1 kB\nMemTotal: {4 * 1024 * 1024} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for path, text in files.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "wanted"),
    [
        ("", {}, 4 * GIB),
        ("0::/\n", {"memory.max": "1073741824\n"}, GIB),
        ("0::/\n", {"memory.max": "max\n"}, 4 * GIB),
        ("0::/a/b\n", {"a/memory.max": f"{GIB}\n", "a/b/memory.max": "max\n"}, GIB),
        ("0::/a/b\n", {"a/memory.max": "max\n", "a/b/memory.max": f"{GIB // 2}\n"}, GIB // 2),
        ("0::/../../kubepods/pod1\n", {"memory.max": f"{GIB}\n"}, GIB),  # the host's path, seen from inside
        ("5:cpu,memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ("5:memory:/host/path\n", {"memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 4 * GIB),
        ("5:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": f"{2 * GIB}", "memory.max": f"{GIB}"}, GIB),
    ],
)
def test_the_lowest_limit_holds(tmp_path: Path, groups: str, files: dict[str, str], wanted: int) -> None:
    assert memory.available(machine(tmp_path, groups, **files)) == wanted


def test_all_that_may_be_used_fits_into_what_there_is() -> None:
    for available in (768 * MIB, GIB, 2 * GIB, 64 * GIB):
        found = memory.limits(8 * MIB, available, 340 * MIB)
        # claims, as much again for what arrives and is computed, and the reader
        assert 340 * MIB + 2 * found.requests + found.reader <= available
        assert 4 * found.message <= found.requests or found.message == 4 * MIB
        assert found.message <= 64 * MIB


def test_with_too_little_memory_small_requests_are_still_served() -> None:
    found = memory.limits(8 * MIB, 256 * MIB, 340 * MIB)
    assert found.requests >= 4 * found.body
    assert found.message >= 4 * MIB


def budget(total: int, used: Callable[[], int] = lambda: 0) -> Budget:
    return Budget(total, 0, used)


def test_claims_are_refused_beyond_the_total_and_given_back_once() -> None:
    of_ten = budget(10)
    first = of_ten.claim(7)
    with pytest.raises(
        Full, match=r"needs 4 bytes of memory more; all requests together may have 10, .* 7 are"
    ):
        of_ten.claim(4)
    with of_ten.claim(3) as second:
        with pytest.raises(Full):
            second.grow(1)
        assert (second.size, of_ten.claimed) == (3, 10)
    first.release()
    first.release()
    assert of_ten.claimed == 0
    assert Full("x").code is Code.RESOURCE_EXHAUSTED


def test_memory_that_is_taken_without_a_claim_counts_too() -> None:
    taken = 0
    small = budget(10 * MIB, lambda: taken)
    small.claim(2 * MIB).release()
    taken = 19 * MIB
    with pytest.raises(Full, match="has not now"):
        small.claim(2 * MIB)
    small.claim(MIB).release()  # what is small is let in: it is what a busy server lives on


def test_who_waits_gets_what_another_gives_back() -> None:
    async def scenario() -> None:
        shared = budget(10)
        first = shared.claim(10)
        second = shared.claim()
        waiting = asyncio.ensure_future(shared.wait(second, 6))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.release()
        await waiting
        assert second.size == 6
        with pytest.raises(Full):
            await shared.wait(second, 11)  # more than there will ever be: not waited for

    asyncio.run(scenario())


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WAIT_SECONDS", 0.0)

    async def scenario() -> None:
        shared = budget(10)
        shared.claim(10)
        with pytest.raises(Full):
            await shared.wait(shared.claim(), 1)

    asyncio.run(scenario())


def test_what_a_process_has_is_counted_without_its_files() -> None:
    before = memory.resident()
    held = bytearray(os.urandom(1024)) * (32 * 1024)
    assert 30 * MIB < memory.resident() - before < 34 * MIB
    status = Path("/proc/self/status").read_text()
    in_all = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    assert memory.resident() < in_all - len(held) // 8, "an interpreter has libraries"


SMAPS = """\
7f0000000000-7f0000002000 r-xp 00001000 fd:00 12   /usr/lib/a library.so
Rss:                   8 kB
Private_Dirty:         0 kB
VmFlags: rd ex mr
7f0000002000-7f0000003000 r--p 00003000 fd:00 12   /usr/lib/a library.so
Rss:                   4 kB
Private_Dirty:         4 kB
7f0000003000-7f0000004000 rw-p 00004000 fd:00 12   /usr/lib/a library.so
Private_Dirty:         0 kB
7f0000004000-7f0000008000 r--p 00000000 fd:00 13   /usr/lib/another.so
Private_Dirty:         0 kB
7f0000009000-7f000000a000 rw-p 00000000 00:00 0
Private_Dirty:         0 kB
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0    [vdso]
Private_Dirty:         0 kB
"""


def test_only_what_is_as_its_file_has_it_may_leave() -> None:
    assert memory.files_read(SMAPS) == [(0x7F0000000000, 0x2000), (0x7F0000004000, 0x4000)]


def test_pages_of_files_leave_and_come_back() -> None:
    def of_files() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2])

    before = of_files()
    memory.leave_files()
    assert of_files() < before
    assert json.loads(json.dumps({"it": ["goes", "on"]})) == {"it": ["goes", "on"]}
