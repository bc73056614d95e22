from __future__ import annotations

import io
from pathlib import Path

import pytest

from infra.core.console import Console, is_terminal
from infra.core.errors import HostError
from infra.core.events import Detail, Note, StageFinished, StageStarted, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"CI": "true"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_drawing_only_on_a_real_terminal(
    stream: io.StringIO, environment: dict[str, str], expected: bool
) -> None:
    assert is_terminal(stream, environment) is expected


def test_without_a_terminal_the_same_words_come_as_plain_lines(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(out, {})
    with console.recording(tmp_path / "log"):
        console(StageStarted("hosts", "Making hosts"))
        console(Note("booted", host="cp"))
        console(Detail("ok: [cp]"))
        with progress(console, "image root", 3) as advance:
            advance(1)
        console(StageFinished("hosts", "changed", 1.25, "3 hosts"))
    text = out.getvalue()
    assert "\x1b" not in text
    assert text.splitlines() == [
        "hosts: Making hosts",
        "  cp: booted",
        "  image root ...",
        "  image root: done",
        "hosts      changed        1.2 s  3 hosts",
    ]
    log = (tmp_path / "log").read_text()
    assert "ok: [cp]" in log
    assert "3 hosts" in log


def test_a_failed_progress_says_so() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="x"), progress(Console(out, {}), "build"):
        raise ValueError("x")
    assert "build: failed" in out.getvalue()


def test_program_output_is_not_markup() -> None:
    out = Terminal()
    console = Console(out, {"NO_COLOR": "1"})
    console.error(HostError("no [bold]answer[/]", tail=":smile: [red]"))
    assert "no [bold]answer[/]" in out.getvalue()
    assert "| :smile: [red]" in out.getvalue()
