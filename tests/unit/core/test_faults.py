"""What ended a stage or a verb, told for people."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from slipway.core.errors import CommandError, DeployError, EnvironmentFault, SlipwayError
from slipway.core.faults import explained, keep_traceback


def no_file(_trace: str) -> Path:
    raise AssertionError("no bug, no traceback")


def full(filename: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([filename] if filename else []))


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FULL = {
    "a write of ours": full(),
    "a quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "deep in a library": raised_from(
        RuntimeError("cannot save"), raised_from(ValueError("x"), full("/disk/a"))
    ),
    "told by a program in C": CommandError(
        ("tar",), 1, "tar: x: No space left on device\ntar: exiting", where="cp"
    ),
    "told by a program in Go": CommandError(
        ("docker",), 1, "write /var/lib/docker/a: no space left on device"
    ),
    "of a stage with a code of its own": raised_from(DeployError("cannot write"), full("/disk/b")),
}


@pytest.mark.parametrize("how", FULL)
def test_a_full_disk_is_one_error_of_the_environment_wherever_it_was_met(how: str) -> None:
    error = explained(FULL[how], "deploy", no_file)
    assert isinstance(error, EnvironmentFault)
    assert error.exit_code == 3
    assert "no space is left" in error.what
    assert "free some" in error.action


def test_it_names_the_disk_the_place_and_the_true_cause() -> None:
    assert "the disk of /disk/a" in explained(FULL["deep in a library"], "x", no_file).what
    error = explained(FULL["told by a program in C"], "x", no_file)
    assert error.where == "cp"
    assert "tar: x: No space left on device" in error.tail


def test_what_says_already_what_to_do_stays_as_it_is() -> None:
    error = raised_from(EnvironmentFault("cannot write go to the cache", action="set SLIPWAY_CACHE"), full())
    assert explained(error, "x", no_file) is error
    error = DeployError("no pods")
    assert explained(error, "x", no_file) is error


def test_the_limit_of_inotify_is_no_full_disk() -> None:
    error = CommandError(("kubelet",), 1, "inotify_add_watch: no space left on device")
    assert explained(error, "x", no_file) is error


@pytest.mark.parametrize(
    ("refused", "said", "todo"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/a"), "/a: Read-only file system", "another one"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "/a: Permission denied", "as root"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", b"/a"), "/a: Is a directory", "in the way"),
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            "Connection reset by peer",
            "doctor",
        ),
        (TimeoutError("timed out"), "timed out", "doctor"),
        (OSError(), "OSError", "doctor"),
    ],
)
def test_what_the_system_refused_is_told_in_its_words(refused: OSError, said: str, todo: str) -> None:
    error = explained(refused, "deploy", no_file)
    assert error.exit_code == 3
    assert error.lines()[0] == said
    assert todo in error.action


def test_a_bug_is_one_line_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bug = raised_from(KeyError("pod"), RuntimeError("http://me:secret@proxy"))
    error = explained(bug, "status", keep_traceback)
    assert error.what == "status ended in an unexpected KeyError: 'pod'"
    (file,) = error.evidence
    assert "RuntimeError" in file.read_text()
    assert "secret" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_bug_is_told_where_there_is_no_room_for_the_file() -> None:
    def keep(_trace: str) -> Path:
        raise full()

    error = explained(KeyError("pod"), "status", keep)
    assert type(error) is SlipwayError
    assert error.evidence == ()
    assert error.action == "this is a bug in slipway; please report it"
