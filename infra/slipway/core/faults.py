"""What ended a stage or a verb, as an error for people: the system's refusals in words, a bug in one line."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from slipway_client.logins import without_logins

from slipway.core.errors import EnvironmentFault, SlipwayError
from slipway.core.state import cache_home

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = tuple(os.strerror(code).lower() for code in _FULL)  # as C, Go and Python programs print them
_NO_ROOM_BYTES = 1 << 20
_REFUSED = (errno.EACCES, errno.EPERM)


def explained(failure: Exception, what: str, keep: Callable[[str], Path]) -> SlipwayError:
    """The failure as an error for people.

    A SlipwayError is one already, unless it comes down to a full disk; what the system refused is told in its
    words. Anything else is a bug: it is told in one line with `what` it ended, and `keep` is given the
    traceback and returns the file where that is.
    """
    if full := _disk_full(failure):
        return full
    if isinstance(failure, SlipwayError):
        return failure
    if isinstance(failure, OSError):
        return _refused(failure)
    evidence: tuple[Path, ...] = ()
    with suppress(OSError):  # no room for it: the one line is still worth telling
        evidence = (keep("".join(traceback.format_exception(failure))),)
    return SlipwayError(
        f"{what} ended in an unexpected {type(failure).__name__}: {failure}",
        action="this is a bug in slipway; please report it" + (" with the file below" if evidence else ""),
        evidence=evidence,
    )


def _disk_full(failure: Exception) -> EnvironmentFault | None:
    """The error for a disk without room, if that is what the failure comes down to.

    A write of ours may have been refused, deep in a library, or one of a program's that printed so. Errors of
    the environment stay as they are: they say already what to do.
    """
    if isinstance(failure, SlipwayError) and failure.exit_code == EnvironmentFault.exit_code:
        return None
    causes = list(_causes(failure))
    refused = [cause for cause in causes if isinstance(cause, OSError) and cause.errno in _FULL]
    told = [line for cause in causes if isinstance(cause, SlipwayError) for line in _told_of_room(cause)]
    if not refused and not told:
        return None
    named = [Path(os.fsdecode(cause.filename)) for cause in refused if cause.filename]
    full = [*named, *_full_folders()]
    lines = failure.lines() if isinstance(failure, SlipwayError) else told
    return EnvironmentFault(
        f"no space is left on the disk of {full[0]}" if full else "no space is left on a disk",
        where=failure.where if isinstance(failure, SlipwayError) else "",
        tail="\n".join(line.strip() for line in lines),
        action="free some and repeat the command: it goes on from there; the cache can lie elsewhere "
        "(SLIPWAY_CACHE), temporary files too (TMPDIR)",
        evidence=failure.evidence if isinstance(failure, SlipwayError) else (),
    )


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """The failure, what it was raised from, and so on."""
    seen: set[int] = set()
    found: BaseException | None = failure
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _told_of_room(error: SlipwayError) -> list[str]:
    """The lines in which a program said that a disk is full; the system says so of inotify's watches too."""
    lines = [error.what, *error.tail.splitlines()]
    return [
        line
        for line in lines
        if any(words in line.lower() for words in _FULL_WORDS) and "watch" not in line.lower()
    ]


def _full_folders() -> list[Path]:
    """Those of the folders slipway writes to whose disk has no room, or no inode, left."""
    full = []
    for folder in (Path(".slipway"), Path(), cache_home(), Path(os.environ.get("TMPDIR", "/tmp"))):  # noqa: S108  # looked at
        with suppress(OSError):
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES or (disk.f_files and not disk.f_favail):
                full.append(folder.absolute())
    return full


def _refused(error: OSError) -> EnvironmentFault:
    """What the system refused, in its own words."""
    said = error.strerror or str(error) or type(error).__name__
    file = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    if error.errno in _REFUSED:
        action = "run as the user it belongs to, or as root"
    elif error.errno == errno.EROFS:
        action = "its disk is mounted read-only: work in a folder of another one"
    elif file:
        action = "look what is there, and move away what is in the way"
    else:
        action = (
            "`slipway doctor` says what this machine lacks; --verbose and the log tell what was done last"
        )
    return EnvironmentFault(said, where=file, action=action)


def keep_traceback(trace: str) -> Path:
    """Write a traceback into a new file (0600) of the temporary folder. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix="slipway-", suffix=".traceback")
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
        file.write(without_logins(trace))
    return Path(name)
