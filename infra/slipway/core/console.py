"""The one owner of rich: turns events into what people read, on stderr.

On a terminal: colours, a spinner and bars. Otherwise the same words as plain lines. Everything,
details included, also goes to the run's log file, and so does what libraries write. No login goes to either.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text
from slipway_client.errors import harmless
from slipway_client.logins import without_logins

from slipway.core.errors import SlipwayError
from slipway.core.events import (
    Detail,
    Event,
    Note,
    ProgressAdvanced,
    ProgressFinished,
    ProgressStarted,
    StageFinished,
    StageStarted,
)
from slipway.core.foreign_output import diverted

STYLE = {"changed": "green", "unchanged": "cyan", "failed": "bold red", "not_run": "dim"}


def is_terminal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to draw: a terminal that is not dumb, outside CI."""
    return stream.isatty() and environment.get("TERM") != "dumb" and not environment.get("CI")


class _Quiet(RichConsole):
    """Whoever read stderr may go away; what is under way then goes on and is told to the log."""

    def on_broken_pipe(self) -> None:
        """In the place of rich's own, which ends the program."""
        self.quiet = True


class Console:
    """Listener for events. Thread-safe: stages emit from worker threads."""

    def __init__(
        self,
        stream: TextIO | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        verbose: bool = False,
    ) -> None:
        stream = stream or sys.stderr
        environment = os.environ if environment is None else environment
        self.terminal = is_terminal(stream, environment)
        self.verbose = verbose
        self._rich = _Quiet(
            file=stream,
            force_terminal=self.terminal,
            no_color="NO_COLOR" in environment or not self.terminal,
            markup=False,  # program output is not markup
            emoji=False,
            highlight=False,
            soft_wrap=True,
        )
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._stages: set[str] = set()  # those that run now
        self._log: TextIO | None = None
        self._mutex = threading.RLock()

    @contextmanager
    def recording(self, log: Path | None) -> Iterator[TextIO]:
        """Keep a log file and, on a terminal, the live area while inside. Yields stdout as it was outside.

        What libraries write to stdout and stderr meanwhile are details. Where no file can be written there is
        no log, which is said: `down` makes room on a full disk.
        """
        with (
            self._log_file(log),
            self._same_stream(),
            diverted(lambda line: self(Detail(harmless(line)))) as streams,
        ):
            if self._rich.file is sys.stderr:
                self._rich.file = streams.err
            with self._live_area():
                yield streams.out

    @contextmanager
    def _log_file(self, log: Path | None) -> Iterator[None]:
        with self._mutex:
            if log is not None:
                try:
                    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._log = log.open("a", encoding="utf-8")
                except OSError as error:
                    self._say(f"  no log is kept: {error.strerror}")
        try:
            yield
        finally:
            with self._mutex:
                self._end_log()

    @contextmanager
    def _same_stream(self) -> Iterator[None]:
        """Write to the same stream as before at the end, when the last line of a library has been told."""
        before = self._rich.file
        try:
            yield
        finally:
            self._rich.file = before

    @contextmanager
    def _live_area(self) -> Iterator[None]:
        with self._mutex:
            if self.terminal:
                self._progress = Progress(
                    SpinnerColumn(),
                    TextColumn("{task.description}", markup=False),
                    BarColumn(bar_width=30),
                    TextColumn("{task.fields[count]}", markup=False),
                    TimeElapsedColumn(),
                    console=self._rich,
                    transient=True,
                    redirect_stdout=False,  # what libraries write is not for people
                    redirect_stderr=False,
                )
                self._progress.start()
        try:
            yield
        except BaseException as error:  # what ends a verb stands in its log too
            told = error.lines() if isinstance(error, SlipwayError) else traceback.format_exception(error)
            with self._mutex:
                self._record("\n".join(told))
            raise
        finally:
            with self._mutex:
                if self._progress is not None:
                    self._progress.stop()
                    self._progress = None
                self._bars.clear()

    def __call__(self, event: Event) -> None:
        with self._mutex:
            match event:
                case StageStarted(name, title):
                    self._stages.add(name)
                    self._start_bar(f"stage {name}", f"{name}: {title}", None)
                    if not self.terminal:
                        self._say(f"{name}: {title}")
                case StageFinished(name, status, seconds, summary):
                    self._stages.discard(name)
                    self._stop_bar(f"stage {name}")
                    self._say(f"{name:<10} {status:<10} {seconds:7.1f} s  {summary}", STYLE[status])
                case Note(text, host):
                    self._say(f"  {self._whose(event.stage, host)}{text}")
                case Detail(text, host):
                    line = f"    {self._whose(event.stage, host)}{text}"
                    if self.verbose:
                        self._say(line, "dim")
                    else:
                        self._record(line)
                case ProgressStarted(label, total, unit):
                    shown = f"{self._whose(event.stage)}{label}"
                    self._start_bar(f"{event.stage}: {label}", shown, total, unit)
                    if not self.terminal:
                        self._say(f"  {shown} ...")
                case ProgressAdvanced(label, done):
                    self._advance(f"{event.stage}: {label}", done)
                case ProgressFinished(label, ok):
                    self._stop_bar(f"{event.stage}: {label}")
                    if not self.terminal:
                        self._say(f"  {self._whose(event.stage)}{label}: {'done' if ok else 'failed'}")

    def _whose(self, stage: str, host: str = "") -> str:
        """What a line begins with: its stage where another one runs too, and its host."""
        beside = stage and self._stages - {stage}
        return f"{f'{stage}: ' if beside else ''}{f'{host}: ' if host else ''}"

    def error(self, error: SlipwayError, *, also: bool = False) -> None:
        """One error, its cause and what to do. also: of something else that failed beside the first."""
        with self._mutex:
            first, *rest = error.lines()
            self._say(f"{'also' if also else 'error'}: {first}", "bold red")
            for line in rest:
                self._say(line)

    def line(self, text: str = "", style: str = "") -> None:
        with self._mutex:
            self._say(text, style)

    def _say(self, text: str, style: str = "") -> None:
        with suppress(OSError):  # nobody can read it, which is no reason to end what is under way
            self._rich.print(Text(without_logins(text), style=style))
        self._record(text)

    def _record(self, text: str) -> None:
        if self._log is not None:
            now = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
            try:
                self._log.write(f"{now} {without_logins(text)}\n")
                self._log.flush()
            except OSError as error:
                self._end_log()
                self._say(f"  the log ends here: {error.strerror}")

    def _end_log(self) -> None:
        if self._log is not None:
            with suppress(OSError):  # a full disk refuses the rest of it once more
                self._log.close()
            self._log = None

    def _start_bar(self, key: str, description: str, total: int | None, unit: str = "steps") -> None:
        if self._progress is not None:
            self._bars[key] = self._progress.add_task(description, total=total, count="", unit=unit)

    def _advance(self, key: str, done: int) -> None:
        if self._progress is not None and key in self._bars:
            task = self._progress.tasks[self._progress.task_ids.index(self._bars[key])]
            scale, unit = (1e6, " MB") if task.fields["unit"] == "B" else (1, "")
            whole = f"/{task.total / scale:.0f}" if task.total else ""
            self._progress.update(self._bars[key], completed=done, count=f"{done / scale:.0f}{whole}{unit}")

    def _stop_bar(self, key: str) -> None:
        if self._progress is not None and key in self._bars:
            self._progress.remove_task(self._bars.pop(key))
