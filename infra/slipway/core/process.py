"""The one place that starts programs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from slipway.core import interrupt
from slipway.core.errors import CommandError, EnvironmentFault

_LOOK = 0.1  # seconds from one look to the next at whether a program has said that it is done


@dataclass(frozen=True)
class Completed:
    """A finished program. `output` is stderr when it printed any there on failure, else stdout."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stderr.strip() or self.stdout.strip()


def run(
    argv: Sequence[str | Path],
    *,
    input: str | Path | Iterable[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
    over: threading.Event | None = None,
    where: str = "",
    action: str = "",
) -> Completed:
    """Run a program to its end and return what it printed.

    input: what it reads from its stdin, whole or in parts, or the file it reads there. env is added to this
    process's environment. Secrets go through `input` or `env`, never argv.
    on_line is called with each line of stdout and stderr as it comes. over: set when the program's work is
    done, which it then need not outlive its output for: what it left behind may hold that open.
    Raises CommandError when it fails (and `check`) or runs past `timeout` seconds, EnvironmentFault
    when the program cannot be started, Cancelled when its thread is to end (core/interrupt.py). On any
    exception the whole process group is ended first, so nothing is left running.
    """
    words = tuple(str(word) for word in argv)
    with (
        input.open("rb")
        if isinstance(input, Path)
        else contextlib.nullcontext(subprocess.DEVNULL if input is None else subprocess.PIPE) as stdin
    ):
        child = _start(words, stdin, subprocess.PIPE, env=env, cwd=cwd, where=where, action=action)
    out: list[str] = []
    err: list[str] = []
    workers = [
        threading.Thread(target=_read, args=(child.stdout, out, on_line), daemon=True),
        threading.Thread(target=_read, args=(child.stderr, err, on_line), daemon=True),
        # beside the wait: a program that hangs without reading must still run into its timeout
        threading.Thread(target=_write, args=(child.stdin, input), daemon=True),
    ]
    for worker in workers:
        worker.start()
    try:
        ended = interrupt.until(partial(_wait, child, over), timeout)
        if over is not None and over.is_set():
            _drain(child, lambda: len(out) + len(err))
    finally:
        end_group(child)
    if not ended:
        raise CommandError(
            words,
            child.returncode,
            f"{''.join(err or out)}no end after {timeout:g} s",
            where=where,
            action=action,
        )
    for worker in workers:
        worker.join(2)  # a daemon it left behind may hold the pipe open for ever
    done = Completed(words, child.returncode, "".join(out), "".join(err))
    if check and done.returncode != 0:
        raise CommandError(words, done.returncode, done.output, where=where, action=action)
    return done


def _wait(child: subprocess.Popen[str], over: threading.Event | None, timeout: float | None) -> bool:
    """Whether a program has ended, or said so, after so many seconds, None for however long it takes."""
    deadline = None if timeout is None else time.monotonic() + timeout
    look = timeout if over is None else _LOOK  # an end and an event cannot be waited for together
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(look)
            return True
        if over is not None and over.is_set():
            return True
        if over is None or (deadline is not None and time.monotonic() >= deadline):
            return False


def _drain(child: subprocess.Popen[str], lines: Callable[[], int]) -> None:
    """Wait for the rest of a program's output, for as long as there is more."""
    before = -1
    while child.poll() is None and lines() != before:
        before = lines()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)


@contextlib.contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    ready: Callable[[str], object],
    timeout: float,
    env: Mapping[str, str] | None = None,
    where: str = "",
    action: str = "",
) -> Iterator[str]:
    """Keep a program running for as long as the block does; yields the line that said it is ready.

    `ready` is called with each line of its output until it accepts one, at most for `timeout` seconds.
    Raises CommandError when the program ends or stays silent before that, EnvironmentFault when it cannot
    be started. It is always ended, children included, when the block is left.
    """
    words = tuple(str(word) for word in argv)
    child = _start(words, subprocess.DEVNULL, subprocess.STDOUT, env=env, where=where, action=action)
    lines: list[str] = []
    accepted: list[str] = []
    told = threading.Event()  # the line has come, or there will be no more

    def on_line(line: str) -> None:
        if not accepted and ready(line):
            accepted.append(line)
            told.set()

    def read() -> None:  # goes on for the whole block, so that a full pipe never stops the program
        _read(child.stdout, lines, on_line)
        told.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        interrupt.until(told.wait, timeout)
        if not accepted:
            end_group(child)
            raise CommandError(
                words,
                child.returncode,
                f"{''.join(lines)}\nended or not ready within {timeout:g} s",
                where=where,
                action=action,
            )
        yield accepted[0]
    finally:
        end_group(child)


@contextlib.contextmanager
def streaming(
    argv: Sequence[str | Path],
    *,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    where: str = "",
    action: str = "",
) -> Iterator[threading.Event]:
    """Keep a program running for as long as the block does; yields what is set once its output has ended.

    on_line is called with each line of stdout and stderr, from a thread of its own; none is kept. Raises
    EnvironmentFault when it cannot be started. It is always ended when the block is left.
    """
    words = tuple(str(word) for word in argv)
    child = _start(words, subprocess.DEVNULL, subprocess.STDOUT, env=env, where=where, action=action)
    ended = threading.Event()

    def read() -> None:
        assert child.stdout is not None  # _start gives it
        for line in child.stdout:
            on_line(line.rstrip("\n"))
        child.stdout.close()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        yield ended
    finally:
        end_group(child)


def lives(pid: int) -> bool:
    """Whether a process of this machine runs. One that has ended and was not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def end_group(child: subprocess.Popen[str], grace: float = 5.0) -> None:
    """End a program that `run` or a caller started in its own session, children included."""
    if child.poll() is not None:
        return
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        try:
            child.wait(grace)
            return
        except subprocess.TimeoutExpired:
            continue


def end_marked(mark: str, grace: float = 5.0) -> None:
    """End every program that has `mark` in its environment, however far from its starter it has gone.

    For what a library starts, whose children leave its process group. Does nothing where there is no /proc.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace
        for pid in _marked(mark.encode()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        while left := _marked(mark.encode()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if not left:
            return


def _marked(mark: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def _start(
    words: tuple[str, ...],
    stdin: int | IO[bytes],
    stderr: int,
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None = None,
    where: str,
    action: str,
) -> subprocess.Popen[str]:
    """Start a program in a session of its own, so that `end_group` ends its children too.

    stdin: DEVNULL, PIPE or an open file. stderr: PIPE, or STDOUT to join the two. Raises EnvironmentFault
    when it, or cwd, does not exist or cannot be used.
    """
    try:
        return subprocess.Popen(
            words,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        missing = str(cwd) if cwd is not None and not cwd.is_dir() else words[0]
        raise EnvironmentFault(
            f"cannot run `{words[0]}`: {missing} does not exist", where=where, action=action
        ) from error
    except OSError as error:  # not for this processor, not executable, a link in a circle
        raise EnvironmentFault(
            f"cannot run `{words[0]}`: {error.strerror}", where=where, action=action
        ) from error


def _read(stream: IO[str] | None, lines: list[str], on_line: Callable[[str], None] | None) -> None:
    assert stream is not None  # _start gives both
    for line in stream:
        lines.append(line)
        if on_line is not None:
            on_line(line.rstrip("\n"))
    stream.close()


def _write(stream: Any, given: str | Path | Iterable[bytes] | None) -> None:
    """Write what a program is to read; stream is None where it reads a file or nothing."""
    if stream is None:
        return
    with contextlib.suppress(BrokenPipeError), stream:  # it ended without reading; its exit code tells why
        if isinstance(given, str):
            stream.write(given)
        else:
            stream.buffer.writelines(given)
