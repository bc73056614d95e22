"""Flags and verbs: one file per group of verbs. It calls the pipeline and formats, nothing else."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """The command `slipway`.

    While its modules are loaded, and after it is done, Ctrl-C ends it at once: Python's own way of ending
    there is a traceback.
    """
    asked = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # else ignored, as in the background
    if asked:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from slipway.cli import app

    if asked:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app.main()
    finally:
        if asked:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
