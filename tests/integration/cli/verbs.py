"""Every verb of the command line, as it is registered: a new one is walked with the others by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from slipway.cli.app import app

# What the arguments that a verb cannot do without are given.
ARGUMENTS = {"name": "cp", "path": "saved.weights.h5"}
# A verb that has two ways through it is walked both ways.
OTHER_WAYS = {
    "smoke": ("--server", "127.0.0.1:1"),
    "provision": ("--check",),
    "settings": ("--schema",),
}


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from _walk(below, (*path, name))
    if not hasattr(command, "commands"):
        needed = [each for each in command.params if each.required and each.param_type_name == "argument"]
        yield (*path, *(ARGUMENTS[each.name] for each in needed))
        if path[-1] in OTHER_WAYS:
            yield (*path, *OTHER_WAYS[path[-1]])


VERBS = tuple(" ".join(words) for words in _walk(typer.main.get_command(app)))
