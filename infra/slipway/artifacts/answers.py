"""Whether a place outside answers, asked once a run.

Some networks accept every TCP connection and then say nothing, so a connect proves nothing: one small
HTTPS request must be answered within the limit.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

LIMIT = 5.0  # seconds, name resolution and TLS included
_known: dict[str, str] = {}


def silence(url: str, limit: float = LIMIT) -> str:
    """Why `url` cannot be used; empty when it answers. Remembered for the life of this process."""
    if url not in _known:
        _known[url] = _ask(url, limit)
    return _known[url]


def _ask(url: str, limit: float) -> str:
    host = urlsplit(url).hostname
    said: list[str] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "slipway"})  # noqa: S310  # fixed addresses
        try:
            with urllib.request.urlopen(request, timeout=limit):  # noqa: S310  # same
                said.append("")
        except urllib.error.HTTPError as error:
            # a registry's API asks for a token first; that is an answer
            said.append("" if error.code == 401 else f"{host} answers HTTP {error.code}")
        except (OSError, ValueError) as error:
            said.append(f"{host} does not answer ({getattr(error, 'reason', '') or error})")

    # name resolution has no timeout of its own, so the whole question is waited for from outside
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(limit)
    return said[0] if said else f"{host} does not answer (nothing within {limit:g} s)"
