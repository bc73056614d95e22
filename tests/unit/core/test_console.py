from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from slipway.core.console import Console, is_terminal
from slipway.core.errors import HostError
from slipway.core.events import Detail, Note, StageFinished, StageStarted, of_stage, progress


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


def test_lines_name_their_stage_where_another_runs_too() -> None:
    out = io.StringIO()
    console = Console(out, {})
    provision, image = of_stage(console, "provision"), of_stage(console, "image")
    provision(StageStarted("provision", "Provision"))
    provision(Note("Docker"))
    with progress(image, "wheels"):  # prepared, so it has not started
        console(StageStarted("model a", "Train"))
        provision(Note("booted", host="cp"))
        of_stage(console, "model a")(Note("restored"))
        console(StageFinished("model a", "changed", 1.25, "accuracy 0.9"))
    provision(Note("Kubernetes"))
    assert out.getvalue().splitlines() == [
        "provision: Provision",
        "  Docker",
        "  image: wheels ...",
        "model a: Train",
        "  provision: cp: booted",
        "  model a: restored",
        "model a    changed        1.2 s  accuracy 0.9",
        "  image: wheels: done",
        "  Kubernetes",
    ]


def test_bars_of_two_stages_with_one_label_are_two(tmp_path: Path) -> None:
    out = Terminal()
    console = Console(out, {"NO_COLOR": "1"})
    with console.recording(None):
        one, other = of_stage(console, "image a"), of_stage(console, "image b")
        with progress(one, "build"), progress(other, "build", 10) as advance:
            advance(3)
            assert len(console._bars) == 2
        assert console._bars == {}


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


def test_what_failed_beside_the_first_is_told_as_that() -> None:
    out = io.StringIO()
    console = Console(out, {})
    console.error(HostError("no answer", action="look"))
    console.error(HostError("no images"), also=True)
    assert out.getvalue().splitlines() == ["error: no answer", "  what to do: look", "also: no images"]


class Refusing(io.StringIO):
    """A stream on a full disk, or whose reader went away."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_log_on_a_full_disk_ends_and_what_is_under_way_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    console = Console(out, {})
    monkeypatch.setattr(Path, "open", lambda *_, **__: Refusing(FULL))
    with console.recording(tmp_path / "log"):
        console(Note("first"))
        console(Note("second"))
        console(Detail("third"))
    assert out.getvalue().splitlines() == [
        "  first",
        "  the log ends here: No space left on device",
        "  second",
    ]


@pytest.mark.parametrize("error", [FULL, BrokenPipeError(errno.EPIPE, "Broken pipe")])
def test_a_reader_that_went_away_ends_nothing_and_the_log_goes_on(tmp_path: Path, error: OSError) -> None:
    console = Console(Refusing(error), {})
    with console.recording(tmp_path / "log"):
        console(Note("first"))
        console.error(HostError("no answer"))
    log = (tmp_path / "log").read_text()
    assert "first" in log
    assert "error: no answer" in log


@pytest.mark.parametrize(
    ("error", "told"), [(HostError("no answer", tail="dial"), "| dial"), (KeyError("pod"), "KeyError: 'pod'")]
)
def test_what_ends_a_verb_stands_in_its_log(tmp_path: Path, error: Exception, told: str) -> None:
    out = io.StringIO()
    with pytest.raises(type(error)), Console(out, {}).recording(tmp_path / "log"):
        raise error
    assert told in (tmp_path / "log").read_text()
    assert out.getvalue() == ""


def test_where_no_log_can_be_written_the_verb_goes_on(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    out = io.StringIO()
    with (console := Console(out, {})).recording(tmp_path / "logs" / "down" / "log"):
        console(Note("three hosts removed"))
    assert out.getvalue().splitlines() == ["  no log is kept: Not a directory", "  three hosts removed"]
