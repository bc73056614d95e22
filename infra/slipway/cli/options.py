"""Options that many verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The settings file. Default: ./slipway.yaml, where it exists."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one key, e.g. hosts.workers=3. Wins over file and environment; may be repeated.",
    ),
]
Model = Annotated[
    str,
    typer.Option("--model", metavar="NAME", help="Of several models (models in slipway.yaml) only this one."),
]
AcceptNewKeys = Annotated[
    bool,
    typer.Option(
        "--accept-new-keys",
        help="Record the SSH host keys of an inventory's machines that nobody has recorded yet, and tell "
        "their fingerprints. Without it you are asked, and refused where there is no terminal.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every task and command as it happens.")]
