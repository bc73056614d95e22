"""Bearer tokens: who has one of a file's is served."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from slipway_client.errors import UsageError

from slipway_server import log
from slipway_server.codes import Code, StatusError

SHORTEST = 16
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


class Tokens:
    """The tokens of a file, one a line.

    Several tokens are valid at once, so that they can be rotated: add the new one, change the clients, take
    the old one out.
    """

    def __init__(self, path: Path) -> None:
        """Raises UsageError when the file cannot be read, or holds no token or something else."""
        self._path = path
        self._digests = _read(path)
        self._told = ""

    def check(self, authorization: str) -> None:
        """Raise StatusError UNAUTHENTICATED unless the header's value is `Bearer` and one of the tokens."""
        given = _BEARER.fullmatch(authorization.strip())
        if given is None:
            raise StatusError(
                Code.UNAUTHENTICATED, "a token is asked for: send the header authorization: Bearer TOKEN"
            )
        digest = _digest(given[1])
        # All of them, and their digests: the time taken says nothing about a token, not even its length.
        if not sum([hmac.compare_digest(digest, one) for one in self._digests]):
            raise StatusError(Code.UNAUTHENTICATED, "the token is none of this server's")

    def look(self) -> None:
        """Take up what the file holds now, if it can be used; the same fault is told once."""
        try:
            digests = _read(self._path)
        except UsageError as error:
            words = "; ".join(error.lines())
            if words != self._told:
                log.event("tokens_refused", level="error", error=words)
            self._told = words
            return
        self._told = ""
        if digests != self._digests:
            self._digests = digests
            log.event("tokens_taken_up", file=str(self._path), tokens=len(digests))


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {type(error).__name__}", where=str(path)) from error
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if line and (not _TOKEN.fullmatch(line) or len(line) < SHORTEST):
            raise UsageError(
                f"expected a token of at least {SHORTEST} letters, digits and -._~+/ on a line",
                where=f"{path}:{number}",
                action="make one with: openssl rand -hex 32",
            )
    found = tuple(_digest(line) for line in lines if line)
    if not found:
        raise UsageError("holds no token", where=str(path), action="make one with: openssl rand -hex 32")
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
