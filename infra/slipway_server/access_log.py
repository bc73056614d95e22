"""--access_log: one line of the log for each request, by whichever door it came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from slipway_server import log

_LONGEST = 256  # of what a client makes up: a model's name, a path


@dataclass(slots=True)
class Record:
    """What is told of a request. code: gRPC's, by its name, or HTTP's number. version: which answered."""

    entrypoint: Literal["GRPC", "REST"]
    method: str
    peer: str
    model: str = ""
    version: int | None = None
    code: str | int = "OK"
    bytes_in: int = 0
    bytes_out: int = 0


_current: ContextVar[Record | None] = ContextVar("request", default=None)


def about(model: str, version: int | None = None) -> None:
    """Note which model, and which version of it, the request under way is about."""
    record = _current.get()
    if record is not None:
        record.model, record.version = model, version


def arrived(size: int) -> None:
    """Note the bytes of the request under way."""
    record = _current.get()
    if record is not None:
        record.bytes_in = size


@contextmanager
def told(record: Record) -> Iterator[Record]:
    """Tell of the request that is answered in the block."""
    token = _current.set(record)
    started = time.perf_counter()
    try:
        yield record
    finally:
        _current.reset(token)
        log.event(
            "request",
            entrypoint=record.entrypoint,
            method=record.method[:_LONGEST],
            model=record.model[:_LONGEST],
            version=record.version,
            code=record.code,
            seconds=round(time.perf_counter() - started, 6),
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            peer=record.peer,
        )
