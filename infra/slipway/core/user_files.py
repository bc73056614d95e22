"""Text of the files that people write: of a sane size, in UTF-8, every fault told with file and line."""

from __future__ import annotations

import codecs
from pathlib import Path

from slipway.core.errors import UsageError

LARGEST = 1 << 18


def text_of(path: Path, *, action: str, largest: int = LARGEST) -> str:
    """The text of a file that a user named. A byte order mark is no part of it.

    UTF-16 is taken where its byte order mark says so: some editors call it Unicode. action: what to do about
    a file that cannot be read. Raises UsageError for one that cannot, is larger than `largest` bytes, or is
    no text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(largest + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", action=action) from error
    except ValueError as error:  # a NUL in its name
        raise UsageError(f"cannot read {str(path)!r}: {error}", action=action) from error
    if len(raw) > largest:
        raise UsageError(f"{path} is larger than {largest:,} bytes: it is some other file", action=action)
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path}:{line}: not {'UTF-16' if wide else 'UTF-8'}: {error.reason} (0x{raw[error.start]:02x})",
            action="save the file as UTF-8",
        ) from error


def printable(text: str, longest: int = 1000) -> str:
    """The beginning of a text on one line, without anything a terminal would act on: that is escaped."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text[:longest]
    )
    return shown if len(text) <= longest else f"{shown}..."
