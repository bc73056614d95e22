"""known_hosts: what its lines say of a machine, read as OpenSSH reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import paramiko

_COMMENT = "#"
_REVOKED = "@revoked"
_MARKERS = ("", "@cert-authority", _REVOKED)


def key_of(file: Path, name: str) -> str:
    """The first key, "type blob", that a file has for a host; empty if it has none."""
    found = (matching(line, name) for line in _lines(file))
    return next((key for marker, key in found if key and not marker), "")


def revoked(files: Iterable[Path], name: str) -> dict[str, str]:
    """The keys, "type blob", that a host may not show any more, each with the file and line that say so.

    name is a host's, or "[address]:port" for another port than 22. As in OpenSSH, a revocation counts in
    whichever file it is, hashed names and patterns are understood, and a line that cannot be is skipped.
    """
    out: dict[str, str] = {}
    for file in files:
        for number, line in enumerate(_lines(file), 1):
            marker, key = matching(line, name)
            if marker == _REVOKED:
                out.setdefault(key, f"{file}:{number}")
    return out


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not there, not readable: ssh goes on without it too
        return []


def matching(line: str, name: str) -> tuple[str, str]:
    """(marker, "type blob") of a line that is about this name; two empty ones for any other line."""
    words = line.split()
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    if marker not in _MARKERS or len(words) < 3 or words[0].startswith(_COMMENT):
        return "", ""
    names, kind, blob = words[:3]
    key = public_key(f"{kind} {blob}") if _names(names, name) else None
    return ("", "") if key is None else (marker, f"{kind} {key.get_base64()}")


def _names(patterns: str, name: str) -> bool:
    """Whether the first word of a line means this name: listed, not excluded by !, or hashed."""
    if patterns.startswith("|"):
        try:
            return paramiko.HostKeys.hash_host(name.lower(), patterns) == patterns
        except (ValueError, AssertionError):  # not a hash
            return False
    found = False
    for pattern in patterns.lower().split(","):
        wanted = pattern.removeprefix("!")
        parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in wanted)
        if re.fullmatch("".join(parts), name.lower()):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def public_key(text: str) -> paramiko.PKey | None:
    """The key of "type blob"; None if it is not one, or of a kind that paramiko does not know."""
    kind = text.partition(" ")[0]
    try:
        entry = paramiko.hostkeys.HostKeyEntry.from_line(f"x {text}")
    except (ValueError, IndexError, OverflowError, paramiko.SSHException, paramiko.hostkeys.InvalidHostKey):
        return None
    key = None if entry is None else entry.key
    return key if key is not None and key.get_name() == kind else None
