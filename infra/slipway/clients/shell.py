"""Run programs here or on another machine over SSH, through one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from slipway.core import process
from slipway.core.process import Completed


class Shell(Protocol):
    """A machine that runs programs: an ssh.Connection, or Here."""

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float | None = None,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed: ...

    def stream_in(
        self, argv: Sequence[str], local: Path, *, timeout: float | None = None, check: bool = True
    ) -> Completed: ...

    def tunnel(self, address: str, port: int) -> AbstractContextManager[tuple[str, int]]: ...


class Here:
    """This machine."""

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float | None = None,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        return process.run(
            argv, input=input, timeout=timeout, check=check, on_line=on_line, where="this machine"
        )

    def stream_in(
        self, argv: Sequence[str], local: Path, *, timeout: float | None = None, check: bool = True
    ) -> Completed:
        return process.run(argv, input=local, timeout=timeout, check=check, where="this machine")

    @contextmanager
    def tunnel(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        yield (address, port)
