"""A process that asks a server for its health by both doors until its input ends, and says how long each took.

Of each answer's time that part is left out in which the server's processor worked for somebody else: neither for
the server's control group nor idle.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
from pathlib import Path

import grpc

Moment = tuple[float, float, float]  # seconds: of the clock, of the group's work, of the processor's idleness


class Clock:
    """Time as the server's processor has it for the server."""

    def __init__(self, usage: str, cpu: int) -> None:
        """usage: the file that has the group's processor time, in cgroup v1's form or in v2's."""
        self._usage = Path(usage)
        self._cpu = f"cpu{cpu} "

    def now(self) -> Moment:
        text = self._usage.read_text()
        worked = int(text) / 1e9 if text[0].isdigit() else int(text.split()[1]) / 1e6
        with Path("/proc/stat").open() as file:
            line = next(line for line in file if line.startswith(self._cpu))
        return time.perf_counter(), worked, int(line.split()[4]) / 100

    def since(self, began: Moment) -> float:
        clock, worked, idle = (now - then for now, then in zip(self.now(), began, strict=True))
        return clock - max(0.0, clock - worked - idle - 0.02)  # idleness is told in hundredths


def main() -> None:
    port, rest_port, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    clock = Clock(sys.argv[4], int(sys.argv[5]))
    seconds: list[tuple[str, float]] = []
    failed: list[str] = []
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    check(b"", timeout=60)
    print("ready", flush=True)
    over = False
    while not over:  # at least one round, however soon the attack is over
        over = bool(select.select([sys.stdin], [], [], pause)[0])
        began = clock.now()
        try:
            answer = check(b"", timeout=60)
            if answer != b"\x08\x01":
                failed.append(f"grpc: {answer!r}")
        except grpc.RpcError as error:
            failed.append(f"grpc: {error}")
        seconds.append(("grpc", clock.since(began)))
        began = clock.now()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", rest_port, timeout=60)
            connection.request("GET", "/v1/models/net")
            status = connection.getresponse().status
            connection.close()
            if status != 200:
                failed.append(f"rest: {status}")
        except OSError as error:
            failed.append(f"rest: {error!r}")
        seconds.append(("rest", clock.since(began)))
    print(json.dumps({"seconds": seconds, "failed": failed}))


if __name__ == "__main__":
    main()
