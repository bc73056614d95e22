"""The one line of a TensorFlow error that says what was wrong."""

from __future__ import annotations

import re

from slipway_client.errors import cause

# Graph mode writes where the operation was defined, then which one it is, then why it failed.
_DEFINED = re.compile(r"^.*?^Node: '[^'\n]*'$", re.DOTALL | re.MULTILINE)


def reason(error: BaseException) -> str:
    """The error's own words, without the graph they came through; at most 500 characters."""
    text = _DEFINED.sub("", str(getattr(error, "message", None) or error), count=1)
    return (cause(text) or type(error).__name__)[:500]
