"""The one line of a TensorFlow error that says what was wrong."""

from __future__ import annotations

# What graph mode wraps around the reason.
_WRAPPING = ("Graph execution error", "Detected at node", "Node:", "[[{{node", "Original stack trace")


def reason(error: BaseException) -> str:
    """The error's own words, without the graph they came through; at most 500 characters."""
    text = str(getattr(error, "message", None) or error)
    lines = (line.strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.startswith(_WRAPPING)]
    return (kept[0] if kept else type(error).__name__)[:500]
