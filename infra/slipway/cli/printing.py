"""What a verb prints on stdout: one JSON document, or lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable

from slipway_client.logins import without_logins

NOTHING = ("nothing to remove",)


def show(document: object, as_json: bool, lines: Callable[[], Iterable[str]]) -> None:
    """One JSON document, or lines, on stdout; without logins."""
    if as_json:
        text = json.dumps(document, indent=2, default=str) + "\n"
    else:
        text = "".join(f"{line}\n" for line in lines())
    sys.stdout.write(without_logins(text))


def show_removed(removed: list[str], as_json: bool) -> None:
    """What a verb took away, one line each."""
    show({"removed": removed}, as_json, lambda: removed or NOTHING)
