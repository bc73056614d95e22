"""How the command line ends: an exit code of the documented set, words for people, never a traceback."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.cli import app
from slipway.core.errors import DeployError, GateFailed, SlipwayError

End = Callable[[BaseException], int]


@pytest.fixture
def end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> End:
    """The exit code of a command line whose verb raises this."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(error: BaseException) -> int:
        def verb(*, standalone_mode: bool) -> int:
            raise error

        monkeypatch.setattr(app, "app", verb)
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0)

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DeployError("no pods"), 6, "error: no pods"),
        (GateFailed("wrong", value=None), 1, "error: wrong"),
        (SlipwayError("odd"), 3, "error: odd"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), 3, "error: /a: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "error: no space is left"),
        (ZeroDivisionError("division by zero"), 3, "an unexpected ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(1), 3, ""),  # of typer's, when nobody reads stdout any more
        (SystemExit(0), 0, ""),
    ],
)
def test_every_end_has_its_code_and_words(
    end: End, error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(error) == code
    err = capsys.readouterr().err
    assert said in err if said else err == ""
    assert "Traceback" not in err


def test_a_bug_is_kept_in_a_file_that_is_named(
    end: End, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(ZeroDivisionError("division by zero")) == 3
    (file,) = tmp_path.iterdir()
    assert f"more in: {file}" in capsys.readouterr().err
    assert "Traceback" in file.read_text()


def test_a_full_disk_behind_stdout_is_told_once(
    end: End, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `slipway settings >/dev/full`: Python itself would try again when it ends, and say so."""
    kept = os.dup(1)
    full = io.TextIOWrapper(io.FileIO(os.open("/dev/full", os.O_WRONLY), "w"), write_through=False)
    monkeypatch.setattr("sys.stdout", full)
    full.write("settings")
    try:
        assert end(OSError(errno.ENOSPC, "No space left on device")) == 3
        full.flush()  # what Python does at its end
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        full.close()
    assert capsys.readouterr().err.count("error: ") == 1
