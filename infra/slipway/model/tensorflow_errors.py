"""The one line of a TensorFlow error that says what was wrong."""

from __future__ import annotations

import re

# Graph mode writes where the operation was defined, then which one it is, then why it failed.
_DEFINED = re.compile(r"^.*?^Node: '[^'\n]*'$", re.DOTALL | re.MULTILINE)
_WRAPPING = ("Graph execution error", "[[{{node", "Original stack trace")


def reason(error: BaseException) -> str:
    """The error's own words, without the graph they came through; at most 500 characters."""
    text = _DEFINED.sub("", str(getattr(error, "message", None) or error), count=1)
    lines = (line.strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.startswith(_WRAPPING)]
    return (kept[0] if kept else type(error).__name__)[:500]
