"""A registry's large blob on its way into a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path

from slipway.core import interrupt

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Download:
    """Where a large blob is written: `part` has `have` of its `size` bytes."""

    part: Path
    have: int
    size: int
    advance: Callable[[int], None]

    def write(self, response: HTTPResponse) -> bytes:
        """Write what is answered, from the start where the registry does not answer with the rest alone."""
        rest = self.have > 0 and response.status == HTTPStatus.PARTIAL_CONTENT
        if not rest:
            self.advance(-self.have)
        done = self.have if rest else 0
        with self.part.open("ab" if rest else "wb") as out:
            while done < self.size and (chunk := response.read(min(_CHUNK, self.size - done))):
                interrupt.check()
                out.write(chunk)
                done += len(chunk)
                self.advance(len(chunk))
        return b""
