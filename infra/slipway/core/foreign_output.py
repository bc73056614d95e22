"""What libraries write to this process's stdout and stderr: into the log, not into people's terminal.

Python's warnings and the last words of threads, loggers nobody set up, C and C++ libraries: all of them end
at file descriptors 1 and 2, so that is where they are caught.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

_LINGERS = 1.0  # seconds for a program left behind, which holds the pipe open, before it is left alone


@dataclass(frozen=True)
class Streams:
    """What slipway itself writes to."""

    out: TextIO
    err: TextIO


@contextmanager
def diverted(on_line: Callable[[str], None]) -> Iterator[Streams]:
    """While inside, each line that anything writes to stdout or stderr goes to on_line, from another thread.

    Yields the two streams as they were outside. Where sys.stdout and sys.stderr are no longer the process's
    own (somebody replaced them), nothing is diverted.
    """
    if not (_is(sys.stdout, 1) and _is(sys.stderr, 2)):
        yield Streams(sys.stdout, sys.stderr)
        return
    _flush()
    kept = Streams(_duplicate(sys.stdout), _duplicate(sys.stderr))
    reading, writing = os.pipe()
    reader = threading.Thread(target=_read, args=(reading, on_line), daemon=True)
    reader.start()
    for number in (1, 2):
        os.dup2(writing, number)
    os.close(writing)
    try:
        yield kept
    finally:
        _flush()
        for number, stream in ((1, kept.out), (2, kept.err)):
            stream.flush()
            os.dup2(stream.fileno(), number)
        reader.join(_LINGERS)
        kept.out.close()
        kept.err.close()


def _is(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is not None and stream.fileno() == number
    except (OSError, ValueError):  # a buffer has none, a closed stream tells none
        return False


def _duplicate(stream: TextIO) -> TextIO:
    return os.fdopen(
        os.dup(stream.fileno()), "w", buffering=1, encoding=stream.encoding, errors=stream.errors
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _read(descriptor: int, on_line: Callable[[str], None]) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            on_line(line.rstrip("\n"))
