"""Logins are never told: every text that people or files are given passes through `without_logins`."""

from __future__ import annotations

import re

# An address's login: all up to the last @ before its path. A password may hold an unescaped / too: then what
# stands in the place of the port is no number.
_IN_ADDRESS = re.compile(
    r"""
    (?<=://)
    (?: [^\s/?\#"<>]* @
      | [^\s/?\#@:"<>\[\]]+ : (?!\d{0,5}(?:[/?\#\s"'<>),;]|$)) [^\s"<>@]* @
    )
    """,
    re.VERBOSE,
)
# user:password@host:port, as proxies may be given; not an image's tag and digest, name:tag@sha256:...
_WITHOUT_SCHEME = re.compile(r"""(?<![\w@/.-])[^\s/:@"'<>=,;(]+:[^\s/:@"'<>]+@(?!sha\d+:)(?=[\w.-]+:\d)""")
_IN_HEADER = re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[^\s'\",]+")
_OF_DOCKER = re.compile(r"""(["']auth["']\s*:\s*["'])[^"']+""")


def without_logins(text: str) -> str:
    """The text with `***` in the place of every login.

    In addresses (http://user:password@host), in headers of HTTP and in Docker's files. What is masked already
    stays as it is.
    """
    if "@" in text:
        text = _WITHOUT_SCHEME.sub("***@", _IN_ADDRESS.sub("***@", text))
    return _OF_DOCKER.sub(r"\1***", _IN_HEADER.sub(r"\1***", text))


def holds_login(text: str) -> bool:
    """Whether there is a login in the text."""
    return without_logins(text) != text
