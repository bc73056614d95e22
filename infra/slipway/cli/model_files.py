"""The model's other forms: save it to a file, restore it from one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.options import Config, Json, Model, Set
from slipway.cli.printing import show
from slipway.cli.session import Session
from slipway.core.errors import UsageError

Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--variable",
        metavar="NAME",
        help="Checkpoints: only this variable, a name or a pattern; may be repeated.",
    ),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="IN_FILE=VARIABLE",
        help="Checkpoints: the variable's name in the file; may be repeated.",
    ),
]


def save(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")],
    variable: Variables = None,
    rename: Rename = None,
    model: Model = "",
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> int:
    """Save the trained model to a file.

    The form follows from the name: .keras or .h5 (whole model), .json or .yaml (architecture), .weights.h5
    (weights); any other name is a tf.train.Saver checkpoint. With model.weights it saves that model.
    """
    from slipway.model import stage
    from slipway.model.mnist import saved_files

    session = Session(config, set_)
    name, settings = session.one(model)
    with session.owning("model save") as ctx:
        images = stage.images(ctx.of(name), settings)
        saved = saved_files.save(
            stage.weights(ctx.of(name), settings, images),
            path,
            images=len(images.train.labels),
            variables=variable or (),
            rename=_renames(rename),
            emit=session.console,
        )
    show(asdict(saved), json, lambda: [f"{saved.kind}: {file}" for file in saved.files])
    return 0


def restore(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to read.")],
    variable: Variables = None,
    rename: Rename = None,
    architecture: Annotated[
        Path | None,
        typer.Option(
            "--architecture",
            metavar="FILE",
            help="Weights alone: the .json or .yaml file with their architecture.",
        ),
    ] = None,
    epochs: Annotated[
        int,
        typer.Option("--epochs", min=0, metavar="N", help="Whole models: train this many epochs more."),
    ] = 0,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Save the result to this file.")
    ] = None,
    model: Model = "",
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> int:
    """Restore a saved model and measure its accuracy.

    In a fresh process, on the held-out images.
    """
    from slipway.model import stage
    from slipway.model.mnist import saved_files

    session = Session(config, set_)
    name, settings = session.one(model)
    with session.owning("model restore") as ctx:
        outcome = saved_files.restore(
            path,
            stage.recipe(settings),
            stage.images(ctx.of(name), settings),
            variables=variable or (),
            rename=_renames(rename),
            architecture=architecture,
            epochs=epochs,
            to=to,
            emit=session.console,
        )
    keys = ("kind", "restored", "kept", "accuracy", "steps")
    show(
        {"path": path, **{key: getattr(outcome, key) for key in keys}},
        json,
        lambda: [
            f"restored: {', '.join(outcome.restored) or 'nothing'}",
            f"kept:     {', '.join(outcome.kept) or 'nothing'}",
            f"accuracy: {outcome.accuracy:.3f} on held-out images",
        ],
    )
    return 0


def _renames(given: list[str] | None) -> dict[str, str] | None:
    pairs = [each.partition("=") for each in given or ()]
    if wrong := [name for name, equals, variable in pairs if not (name and equals and variable)]:
        raise UsageError(f"--rename {wrong[0]}: expected NAME_IN_FILE=VARIABLE")
    return {name: variable for name, _, variable in pairs} or None
