"""A server in a memory control group and on one processor, asked for its health all the while by another process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .conftest import Made, Server, StartServer

GIB = 1024**3
CPU = max(os.sched_getaffinity(0))
PAUSE = 0.05  # seconds between two probes
# Before everybody else on a busy machine: what is measured is how long the server keeps a probe waiting.
_FIRST = ("nice", "-n", "-15") if os.geteuid() == 0 else ()
_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group of so many bytes, gone afterwards."""
    name = f"slipway-test-{uuid.uuid4().hex[:8]}"
    folder = Path("/sys/fs/cgroup", "" if _V2 else "memory", name)
    made = [folder] if _V2 else [folder, Path("/sys/fs/cgroup/cpuacct", name)]
    for each in made:
        each.mkdir()
    try:
        (folder / ("memory.max" if _V2 else "memory.limit_in_bytes")).write_text(str(limit))
        yield folder
    finally:
        deadline = time.monotonic() + 10
        while (folder / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.05)
        for each in made:
            each.rmdir()


@dataclass
class Confined:
    """A server that may have one GiB and one processor, and what was seen of it."""

    server: Server
    group: Path
    usage: Path  # the file of its group's processor time
    health: list[tuple[str, float]] = field(default_factory=list)  # door, seconds
    peak: int = 0  # bytes resident, all its processes together
    failed: list[str] = field(default_factory=list)  # what a probe was answered other than it should be

    def resident(self) -> int:
        total = 0
        for pid in (self.group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                reads = b"reader_process" in Path("/proc", pid, "cmdline").read_bytes()
                if not reads and int(pid) != self.server.process.pid:
                    continue  # about to become another program: its memory is still the server's own
                _, resident, shared, *_ = map(int, Path("/proc", pid, "statm").read_text().split())
                # files are in memory once: the reader's are the interpreter's and its libraries', as the server's
                total += (resident - shared if reads else resident) * os.sysconf("SC_PAGE_SIZE")
        return total

    def killed(self) -> int:
        """How often the kernel ended a process of the group for want of memory."""
        file = self.group / ("memory.events" if _V2 else "memory.oom_control")
        for line in file.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        raise AssertionError(file)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Ask for its health by both doors and look at its memory until the block ends."""
        words = [
            *_FIRST,
            "taskset",
            "-c",
            str(CPU),
            sys.executable,
            str(Path(__file__).with_name("prober.py")),
        ]
        ports = [str(self.server.port), str(self.server.rest_port), str(PAUSE), str(self.usage), str(CPU)]
        done = threading.Event()

        def sample() -> None:
            while not done.wait(0.02):
                self.peak = max(self.peak, self.resident())

        sampler = threading.Thread(target=sample)
        prober = subprocess.Popen([*words, *ports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert prober.stdout is not None
        assert prober.stdout.readline() == "ready\n"
        sampler.start()
        try:
            yield
        finally:
            told, _ = prober.communicate("")
            done.set()
            sampler.join()
            found = json.loads(told)
            self.health += [(door, seconds) for door, seconds in found["seconds"]]
            self.failed += found["failed"]

    def slowest(self) -> float:
        return max(seconds for _, seconds in self.health)

    def summary(self) -> str:
        ordered = sorted(seconds for _, seconds in self.health)
        late = sum(seconds > 0.2 for seconds in ordered)
        return (
            f"{len(ordered)} probes: median {ordered[len(ordered) // 2] * 1e3:.1f} ms, 99 % within "
            f"{ordered[int(len(ordered) * 0.99)] * 1e3:.0f} ms, slowest {ordered[-1] * 1e3:.0f} ms, {late} over 200 ms; "
            f"peak {self.peak / 1e6:.0f} MB resident"
        )


@contextlib.contextmanager
def confined(start: StartServer, made: Made) -> Iterator[Confined]:
    with memory_group(GIB) as group:
        usage = group / "cpu.stat"
        join = f"echo $$ > {group}/cgroup.procs"
        if not _V2:
            counted = Path("/sys/fs/cgroup/cpuacct", group.name)
            usage = counted / "cpuacct.usage"
            join += f" && echo $$ > {counted}/cgroup.procs"
        into = ("/bin/sh", "-c", f'{join} && exec "$@"', "sh")
        config = group_config(start, made)
        server = start(f"--model_config_file={config}", through=(*into, "taskset", "-c", str(CPU), *_FIRST))
        try:
            yield Confined(server, group, usage)
        finally:
            server.channel.close()
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait()


def group_config(start: StartServer, made: Made) -> Path:
    path = start.folder / "confined.config"
    path.write_text(
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "{made.models}/{name}" model_platform: "tensorflow" }}'
            for name in ("net", "shapes")
        )
        + "}"
    )
    return path
