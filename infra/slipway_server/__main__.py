"""`slipway-model-server`, `python -m slipway_server`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from slipway_client.errors import SlipwayError, UsageError

from slipway_server import __version__, command_line, log


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM. The exit code: 0 drained, 2 wrong flags or files, 3 what the machine lacks."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        sys.stdout.write(command_line.usage() + "\n")
        return 0
    try:
        parsed = command_line.parse(words)
        if parsed.version:
            sys.stdout.write(_versions())
            return 0
        # Until serve() takes over: the kernel keeps a signal without a handler from a container's first
        # process. SIGTERM last: who sees it caught (a test does) may send either.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        import uvloop  # wrong flags are answered before it and gRPC are imported

        from slipway_server import processes

        siblings = processes.siblings()
        if parsed.processes > 1 and siblings is None:
            return uvloop.run(processes.supervise(parsed, processes.command()))

        from slipway_server.server import serve

        uvloop.run(serve(parsed, siblings))
    except UsageError as error:
        sys.stderr.write("\n".join(error.lines()) + "\n")
        return 2
    except SlipwayError as error:
        log.event("not_started", level="error", error="\n".join(error.lines()))
        return error.exit_code or 3
    return 0


def _versions() -> str:
    from slipway_server import runtime

    return f"slipway-model-server: {__version__}\nTensorFlow Library: {runtime.load().version}\n"


def _leave(_number: int, _frame: FrameType | None) -> None:
    log.event("stopped")
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
