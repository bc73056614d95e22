"""Save and restore of the trained network in every form, for the command line: TensorFlow runs apart.

The form follows from the file's name:
  NAME.keras, NAME.h5, NAME.hdf5   the whole Keras model with optimizer state
  NAME.json, NAME.yaml, NAME.yml   its architecture alone
  NAME.weights.h5                  its weights alone
  anything else                    a tf.train.Saver checkpoint (prefix of .meta, .index, .data-*)
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from infra.core.errors import UsageError
from infra.core.events import Emit, silent
from infra.mnist import network, tasks
from infra.mnist.data import Dataset, Images
from infra.mnist.network import Recipe, Trained, Weights

Kind = Literal["model", "architecture", "weights", "checkpoint"]


@dataclass(frozen=True)
class Saved:
    """files: what was written. variables: their names in it, none for an architecture."""

    path: Path
    kind: Kind
    files: tuple[Path, ...]
    variables: tuple[str, ...]


@dataclass(frozen=True)
class Restored:
    """What a file gave back.

    restored: variables with the file's values; kept: those with their own, freshly seeded ones.
    accuracy: share of 1 on the held-out images. weights: for export; None when the file holds another
    network than the perceptron. steps: SGD steps its optimizer counts, whole models only.
    """

    path: Path
    kind: Kind
    restored: tuple[str, ...]
    kept: tuple[str, ...]
    accuracy: float
    weights: Weights | None
    steps: int | None
    saved: Saved | None = None


def kind_of(path: Path) -> Kind:
    """The form a file's name stands for."""
    if path.name.endswith(".weights.h5"):
        return "weights"
    if path.suffix in {".keras", ".h5", ".hdf5"}:
        return "model"
    if path.suffix in {".json", ".yaml", ".yml"}:
        return "architecture"
    return "checkpoint"


def save(
    result: Trained,
    path: Path,
    *,
    images: int,
    variables: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    emit: Emit = silent,
) -> Saved:
    """Save trained weights in the form `path` is named for; an older file of that name is replaced.

    images: how many were trained on (a whole model's optimizer counts steps). Checkpoints only:
    variables, names or patterns; rename, name in the checkpoint -> variable.
    Raises UsageError for a selection that fits nothing or no checkpoint, ModelError when writing fails.
    """
    kind = kind_of(path)
    _only_checkpoints(kind, variables, rename)
    with tempfile.TemporaryDirectory(prefix="slipway-save-") as scratch:
        weights = Path(scratch) / "weights.npz"
        network.save_weights(weights, result.weights)
        steps = result.recipe.epochs * -(-images // result.recipe.batch_size)
        answer = tasks.run(
            "save",
            {
                "kind": kind,
                "path": path.absolute(),
                "weights": weights,
                "recipe": asdict(result.recipe),
                "steps": steps,
                "variables": list(variables),
                "rename": dict(rename or {}),
            },
            emit,
        )
    return Saved(path, kind, tuple(map(Path, answer["files"])), tuple(answer["variables"]))


def restore(
    path: Path,
    recipe: Recipe,
    data: Dataset,
    *,
    variables: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    architecture: Path | None = None,
    epochs: int = 0,
    to: Path | None = None,
    emit: Emit = silent,
) -> Restored:
    """Restore a file in a fresh process, measure it on the held-out images, train on, save again.

    What the file does not hold keeps the recipe's fresh weights. variables, rename: as in save.
    architecture: a .json or .yaml file for weights alone; else the perceptron. epochs: train a whole
    model on from where it stopped; to: save the outcome there, in the form of its name.
    Raises ModelError naming the file, variables and shapes at odds; then nothing was written.
    """
    kind = kind_of(path)
    _only_checkpoints(kind, variables, rename)
    if architecture is not None and (kind != "weights" or kind_of(architecture) != "architecture"):
        raise UsageError("an architecture (.json, .yaml) is only given with weights alone (.weights.h5)")
    if epochs and kind != "model":
        raise UsageError(
            f"{path} has no optimizer state to train on from", action="give a whole model: .keras or .h5"
        )
    if to is not None and kind_of(to) == "checkpoint" and kind != "checkpoint":
        raise UsageError(f"{to}: a Keras model is saved as .keras, .h5, .weights.h5, .json or .yaml")
    if to is not None and kind_of(to) != "checkpoint" and kind == "checkpoint":
        raise UsageError(f"{to}: a checkpoint is saved as a checkpoint; a .ckpt prefix, for example")
    with tempfile.TemporaryDirectory(prefix="slipway-restore-") as scratch:
        images, weights = Path(scratch) / "images.npz", Path(scratch) / "weights.npz"
        fresh = Path(scratch) / "fresh.npz"
        network.save_weights(fresh, network.initial(recipe.seed))
        train = data.train if epochs else Images(data.train.images[:0], data.train.labels[:0])
        np.savez(
            images,
            held_out_images=data.held_out.images,
            held_out_labels=data.held_out.labels,
            train_images=train.images,
            train_labels=train.labels,
        )
        answer = tasks.run(
            "restore",
            {
                "kind": kind,
                "path": path.absolute(),
                "recipe": asdict(recipe),
                "fresh": fresh,
                "images": images,
                "weights": weights,
                "variables": list(variables),
                "rename": dict(rename or {}),
                "architecture": None if architecture is None else architecture.absolute(),
                "epochs": epochs,
                "to": None if to is None else to.absolute(),
                "to_kind": None if to is None else kind_of(to),
            },
            emit,
            label=f"training on for {epochs} epochs" if epochs else "",
            total=epochs,
        )
        restored = network.load_weights(weights) if weights.is_file() else None
    saved = None
    if to is not None:
        saved = Saved(to, kind_of(to), tuple(map(Path, answer["files"])), tuple(answer["variables"]))
    return Restored(
        path,
        kind,
        tuple(answer["restored"]),
        tuple(answer["kept"]),
        float(answer["accuracy"]),
        restored,
        answer["steps"],
        saved,
    )


def _only_checkpoints(kind: Kind, variables: Sequence[str], rename: Mapping[str, str] | None) -> None:
    if kind != "checkpoint" and (variables or rename):
        raise UsageError("variables are selected and renamed in checkpoints only, not in Keras files")
    if variables and rename:
        raise UsageError("give a selection or a rename map, not both", action="the map selects what it names")
