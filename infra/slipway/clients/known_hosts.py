"""known_hosts: which keys a machine may show, read as OpenSSH reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import paramiko

_COMMENT = "#"
_AUTHORITY, _REVOKED = "@cert-authority", "@revoked"
_MARKERS = ("", _AUTHORITY, _REVOKED)


@dataclass(frozen=True)
class Recorded:
    """What known_hosts files say of one name.

    keys: "type blob" of each that counts, ed25519 first. revoked: the keys that it may not show any more,
    each with the file and line that say so. taken_back: those of its own keys that are revoked. authorities:
    how many lines leave it to a certificate's issuer.
    """

    keys: tuple[str, ...]
    revoked: Mapping[str, str]
    taken_back: tuple[str, ...]
    authorities: int


def recorded(files: Iterable[Path], name: str) -> Recorded:
    """What the files say of a host's name, or of "[address]:port" for another port than 22.

    The first file with a key wins. The rest is as in OpenSSH: a revocation counts in whichever file it is,
    hashed names and patterns are understood, and a line that cannot be understood is skipped.
    """
    keys: list[str] = []
    revoked: dict[str, str] = {}
    authorities = 0
    for file in files:
        found: list[str] = []
        for number, line in enumerate(_lines(file), 1):
            marker, key = _matching(line, name)
            if marker == _REVOKED:
                revoked.setdefault(key, f"{file}:{number}")
            elif marker == _AUTHORITY:
                authorities += 1
            elif key:
                found.append(key)
        keys = keys or found
    order = sorted(dict.fromkeys(keys), key=lambda key: (not key.startswith("ssh-ed25519 "), key))
    valid, taken_back = (tuple(key for key in order if (key in revoked) == gone) for gone in (False, True))
    return Recorded(valid, revoked, taken_back, authorities)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not there, not readable: ssh goes on without it too
        return []


def _matching(line: str, name: str) -> tuple[str, str]:
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
