"""The one place that starts programs."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.core.errors import CommandError, EnvironmentFault


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
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
    where: str = "",
    action: str = "",
) -> Completed:
    """Run a program to its end and return what it printed.

    env is added to this process's environment. Secrets go through `input` or `env`, never argv.
    on_line is called with each line of stdout and stderr as it comes.
    Raises CommandError when it fails (and `check`) or runs past `timeout` seconds, EnvironmentFault
    when the program does not exist. On any exception the whole process group is ended first, so
    nothing is left running.
    """
    words = tuple(str(word) for word in argv)
    try:
        child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            text=True,
            errors="replace",
            start_new_session=True,  # so that a timeout or Ctrl-C ends its children too
        )
    except FileNotFoundError as error:
        missing = str(cwd) if cwd is not None and not cwd.is_dir() else words[0]
        raise EnvironmentFault(
            f"cannot run `{words[0]}`: {missing} does not exist", where=where, action=action
        ) from error
    out: list[str] = []
    err: list[str] = []
    readers = [
        threading.Thread(target=_read, args=(stream, lines, on_line), daemon=True)
        for stream, lines in ((child.stdout, out), (child.stderr, err))
    ]
    for reader in readers:
        reader.start()
    try:
        if input is not None and child.stdin is not None:
            try:
                child.stdin.write(input)
                child.stdin.close()
            except BrokenPipeError:
                pass  # the program ended without reading; its exit code tells why
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            end_group(child)
            raise CommandError(
                words,
                child.returncode,
                f"{''.join(err or out)}no end after {timeout:g} s",
                where=where,
                action=action,
            ) from error
    except BaseException:
        end_group(child)
        raise
    for reader in readers:
        reader.join(2)  # a daemon it left behind may hold the pipe open for ever
    done = Completed(words, child.returncode, "".join(out), "".join(err))
    if check and done.returncode != 0:
        raise CommandError(words, done.returncode, done.output, where=where, action=action)
    return done


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
    Raises CommandError when the program ends or stays silent before that, EnvironmentFault when it does
    not exist. It is always ended, children included, when the block is left.
    """
    words = tuple(str(word) for word in argv)
    try:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise EnvironmentFault(
            f"cannot run `{words[0]}`: it does not exist", where=where, action=action
        ) from error
    lines: list[str] = []
    accepted: queue.Queue[str | None] = queue.Queue()

    def on_line(line: str) -> None:
        if accepted.empty() and ready(line):
            accepted.put(line)

    def read() -> None:  # goes on for the whole block, so that a full pipe never stops the program
        _read(child.stdout, lines, on_line)
        accepted.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        try:
            line = accepted.get(timeout=timeout)
        except queue.Empty:
            line = None
        if line is None:
            end_group(child)
            raise CommandError(
                words,
                child.returncode,
                f"{''.join(lines)}\nended or not ready within {timeout:g} s",
                where=where,
                action=action,
            )
        yield line
    finally:
        end_group(child)


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


def _read(stream: object, lines: list[str], on_line: Callable[[str], None] | None) -> None:
    for line in stream:  # type: ignore[attr-defined]  # Popen's text streams are untyped here
        lines.append(line)
        if on_line is not None:
            on_line(line.rstrip("\n"))
