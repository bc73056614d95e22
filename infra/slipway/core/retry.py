"""Waiting: one loop with a deadline, an interval and the last thing seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from slipway.core import interrupt
from slipway.core.errors import SlipwayError, Timeout

T = TypeVar("T")


class Pending(Exception):
    """Raised by an attempt: not yet; the text says what was seen."""


def wait_for(
    what: str,
    attempt: Callable[[], T],
    *,
    timeout: float,
    interval: float = 0.5,
    retry_on: tuple[type[BaseException], ...] = (),
    where: str = "",
    action: str = "",
) -> T:
    """Call `attempt` until it returns, at most for `timeout` seconds.

    Pending and the classes in `retry_on` mean "not yet"; anything else ends the wait at once.
    Raises Timeout with the last reason as its tail. The attempt is always made at least once.
    """
    not_yet: tuple[type[BaseException], ...] = (Pending, *retry_on)
    deadline = time.monotonic() + timeout
    while True:
        try:
            return attempt()
        except not_yet as error:
            last = "\n".join(error.lines()) if isinstance(error, SlipwayError) else str(error) or repr(error)
        if time.monotonic() + interval > deadline:
            raise Timeout(
                f"{what} did not happen within {timeout:g} s", where=where, tail=last, action=action
            )
        interrupt.pause(interval)
