"""One run at a time per state folder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from infra.core.errors import LockHeld
from infra.core.state import State


@contextmanager
def held(state: State, verb: str) -> Iterator[None]:
    """Own the state folder while inside.

    The kernel lets go of the lock when the process ends, however it ends, so a killed run leaves
    nothing to clear away. Raises LockHeld, naming the run that owns it.
    """
    state.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeld(
                f"{state.root} is in use by another run{_owner(os.pread(handle, 4096, 0))}",
                action="wait for it to end, or stop it with Ctrl-C where it runs; "
                "a second lab needs a state folder of its own (another directory, or --config)",
            ) from None
        os.ftruncate(handle, 0)
        since = datetime.now(UTC).strftime("%H:%M:%S UTC")
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "verb": verb, "since": since}).encode(), 0)
        yield
    finally:
        os.close(handle)


def _owner(data: bytes) -> str:
    try:
        owner = json.loads(data)
        return f": `slipway {owner['verb']}`, process {owner['pid']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return ""
