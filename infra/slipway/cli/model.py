"""The model: train, export and inspect it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.chain import run_chain
from slipway.cli.options import Config, Json, Model, Set, Verbose
from slipway.cli.printing import show
from slipway.cli.session import Session
from slipway.core.errors import UsageError
from slipway.core.schema import Settings
from slipway.settings.read import Request, read


def train(
    config: Config = None, set_: Set = None, model: Model = "", json: Json = False, verbose: Verbose = False
) -> int:
    """Train the model and export its next version.

    Does nothing when recipe, data and the newest version are unchanged.
    """
    session = Session(config, set_, verbose=verbose)
    for name, settings in session.settings.each(model):
        if settings.model.weights is not None:
            raise UsageError(
                f"model.weights brings {settings.model.weights}, so nothing would be trained"
                + (f" for {name}" if name else ""),
                action="`slipway model export` exports it; leave model.weights out to train",
            )
    return run_chain(session, "model train", first="model", last="model", only=model, as_json=json)


def export(
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Export these weights instead of trained ones: a checkpoint, .keras, .h5 or .weights.h5 "
            "file; setting model.weights for this run.",
        ),
    ] = None,
    model: Model = "",
    config: Config = None,
    set_: Set = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Export the next version of the model.

    Its weights are trained or restored; they are trained first when nothing has been trained with these
    settings.
    """
    flags = [*(set_ or []), *([f"model.weights={from_}"] if from_ is not None else [])]
    session = Session(config, flags, verbose=verbose)
    if from_ is not None:
        session.one(model)  # weights are one model's
    code = run_chain(session, "model export", first="model", last="model", only=model, as_json=json)
    lasting = from_ is None or _asked_again(session, set_, model).model.weights
    if not lasting and code == 0:
        says = f"model: {{weights: {from_}}}"
        says = f"models: {{{model}: {{{says}}}}}" if session.settings.models else says
        session.console.line(f"`slipway up` trains again unless slipway.yaml says `{says}`")
    return code


def _asked_again(session: Session, set_: list[str] | None, model: str) -> Settings:
    """What the next run has as settings of this model, without the flags of this one."""
    settings, _ = read(replace(session.request, flags=tuple(set_ or ())))
    return settings.each(model)[0][1]


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A SavedModel's folder, its parent of version folders, or an address like model.path's.",
        ),
    ],
    json: Json = False,
) -> int:
    """Describe any SavedModel: signatures, versions, size, accuracy."""
    from slipway.model import fetched, saved_model

    folder = Path(path)
    if "://" in path:
        read(Request(None, flags=(f"model.path={path}",)))  # refuses what is no address
        with Session(None, None).looking("model inspect") as ctx:
            folder = fetched.fetched(ctx, path).path
    description = saved_model.inspect(folder)
    show(asdict(description), json, lambda: saved_model.as_text(description).splitlines())
    return 0
