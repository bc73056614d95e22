"""Run `up` and kill this process with SIGKILL at a chosen point: `killed_up.py STATE CACHE POINT`.

POINT is "after:MODULE:NAME" or "before:MODULE:NAME" of a function below slipway.hosts, or "said:TEXT"
for the first event that contains TEXT.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from slipway.core.context import Context
from slipway.core.events import Event
from slipway.core.schema import HostsSettings, Settings
from slipway.core.state import State
from slipway.hosts.nspawn.backend import Nspawn


def end_here() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def place(what: str) -> tuple[Any, str]:
    """The module or class that MODULE:NAME stands in, and the attribute."""
    module_name, _, name = what.partition(":")
    module = importlib.import_module(f"slipway.hosts.{module_name}")
    owner_name, _, attribute = name.rpartition(".")
    return getattr(module, owner_name) if owner_name else module, attribute


def main(state: Path, cache: Path, point: str) -> None:
    when, _, what = point.partition(":")
    if when == "said":

        def listen(event: Event) -> None:
            if what in str(event):
                end_here()

        emit = listen
    else:
        emit = lambda event: None  # noqa: E731  # a listener that does nothing
        owner, attribute = place(what)
        real = getattr(owner, attribute)

        def replaced(*args: object, **kwargs: object) -> object:
            if when == "before":
                end_here()
            result = real(*args, **kwargs)
            end_here()
            return result

        setattr(owner, attribute, replaced)
    context = Context(State(state), state / "run", state, cache=cache, emit=emit)
    Nspawn().up(context, Settings(hosts=HostsSettings(workers=0)))
    print("up came to its end", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
