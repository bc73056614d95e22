"""The versions of a model: numbered folders as model servers watch them, and how a new one appears whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.core import process

_BESIDE = ".export-"  # no number, so no server takes it for a version


def folders(folder: Path) -> dict[int, Path]:
    """Version -> its folder, by number as model servers read the names (007 is 7)."""
    return {number: child for number, child in _numbered(folder).items() if child.is_dir()}


def numbers(folder: Path) -> tuple[int, ...]:
    """The versions in `folder`, oldest first."""
    return tuple(sorted(folders(folder)))


def next_version(folder: Path) -> int:
    """One more than any number in `folder`, a file's too: it would be in the way of a version."""
    return max(_numbered(folder), default=0) + 1


def _numbered(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    # Folders last: of 7 and 007, the one that can be a version.
    children = sorted(folder.iterdir(), key=lambda child: (child.is_dir(), child))
    return {int(child.name): child for child in children if child.name.isascii() and child.name.isdigit()}


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A place to write a version in, on the same file system; gone afterwards whatever happens."""
    for left in folder.glob(f"{_BESIDE}*"):
        if not _alive(left.name.removeprefix(_BESIDE)):
            shutil.rmtree(left, ignore_errors=True)
    outer = folder / f"{_BESIDE}{os.getpid()}"
    shutil.rmtree(outer, ignore_errors=True)
    outer.mkdir()
    try:
        yield outer / "model"
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _alive(pid: str) -> bool:
    return pid.isdigit() and process.lives(int(pid))


def into_place(target: Path, folder: Path) -> Path:
    """Rename to the next free version; a directory that appears meanwhile only costs a number."""
    while True:
        final = folder / str(next_version(folder))
        try:
            target.rename(final)
        except OSError:
            if not os.path.lexists(final):
                raise
        else:
            return final
