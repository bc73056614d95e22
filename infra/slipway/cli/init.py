"""`slipway init`: a commented slipway.yaml to begin with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.options import Config, Json
from slipway.settings.presets import Name


def init(
    preset: Annotated[
        Name,
        typer.Option(
            "--preset",
            metavar="[lab|ssh|cluster|server]",
            help="lab: hosts made on this machine. ssh: machines that exist. cluster: a cluster that exists. "
            "server: only ask a server that runs.",
        ),
    ] = "lab",
    config: Config = None,
    json: Json = False,
) -> int:
    """Write a commented slipway.yaml into this folder.

    It sets a few keys for one way of working and shows every other one with its meaning and default.
    A file that is there already is never overwritten.
    """
    from slipway.cli.printing import show
    from slipway.core import ownership
    from slipway.core.errors import UsageError
    from slipway.settings import presets
    from slipway.settings.read import Request, read

    chosen, config = presets.PRESETS[preset], config or Path("slipway.yaml")
    ownership.require_own("the settings file", config)  # else no other verb would read it
    wrote = [config]
    _write_new(config, presets.text(preset))
    for name, text in chosen.files.items():
        beside = config.with_name(name)
        if not beside.exists():
            _write_new(beside, text)
            wrote.append(beside)
    environment = {name: value for name, value in os.environ.items() if name.startswith("SLIPWAY_")}
    fill_in: list[str] = []
    try:
        read(Request(config, environment))
    except UsageError as problem:  # what only the user can know; the file is written all the same
        fill_in = problem.tail.splitlines()
        sys.stderr.write(f"to fill in:\n{problem.tail}\n")
    sys.stderr.write("".join(f"next:     {step}\n" for step in chosen.next))
    document = {"wrote": [str(path) for path in wrote], "fill_in": fill_in, "next": list(chosen.next)}
    show(document, json, list)
    return 0


def _write_new(path: Path, text: str) -> None:
    """Write a new file. Raises UsageError if it exists or cannot be written."""
    from slipway.core.errors import UsageError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already", action="move it away, or begin in another folder"
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", action="begin in a folder where you may write"
        ) from error
    sys.stderr.write(f"wrote {path}\n")
