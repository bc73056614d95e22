"""Locks of files and folders, and of a state folder.

The kernel drops them with the process that holds them.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from slipway.core.errors import LockHeld, Timeout
from slipway.core.retry import Pending, wait_for
from slipway.core.state import State


@contextmanager
def flock(
    path: Path,
    holder: str,
    *,
    timeout: float | None,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Hold an exclusive lock on a folder, or on a file that is made (0600) when it is missing.

    Gives the open descriptor, of a file for reading and writing. The kernel lets go of the lock when the
    process ends, however it ends, so a killed run leaves nothing to clear away; the file stays, for
    without it two runs could hold two different ones.

    timeout: seconds to wait while somebody else has it; None waits for ever. on_wait is called once, before
    the first wait. Raises Timeout, naming `holder`: in words, who else takes this lock.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def take() -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Pending(f"{path} is locked by {holder}") from None

    try:
        try:
            take()
        except Pending:
            on_wait()
            wait_for(
                f"a lock on {path}",
                take,
                timeout=math.inf if timeout is None else timeout,
                interval=0.1,
                action="wait for that run to end",
            )
        yield handle
    finally:
        os.close(handle)


@contextmanager
def held(state: State, verb: str) -> Iterator[None]:
    """Own the state folder while inside: one run at a time. Raises LockHeld, naming the run that owns it.

    Raises EnvironmentFault if somebody else can write the folder; it is judged again once it is there, for
    in a folder such as /tmp somebody else may have been first.
    """
    state.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.require_own()
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(flock(state.lock, "another run", timeout=0))
        except Timeout:
            raise LockHeld(
                f"{state.root} is in use by another run{_owner(state.lock.read_bytes())}",
                action="wait for it to end, or stop it with Ctrl-C where it runs; "
                "a second lab needs a state folder of its own (another directory, or --config)",
            ) from None
        since = datetime.now(UTC).strftime("%H:%M:%S UTC")
        with suppress(OSError):  # the lock is held all the same; `down` and `clean` make room on a full disk
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "verb": verb, "since": since}).encode(), 0)
        yield


def _owner(data: bytes) -> str:
    try:
        owner = json.loads(data)
        return f": `slipway {owner['verb']}`, process {owner['pid']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return ""
