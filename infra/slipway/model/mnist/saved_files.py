"""Save and restore of the trained network in every form, for the command line: TensorFlow runs apart.

The form follows from the file's name:
  NAME.keras, NAME.h5, NAME.hdf5   the whole Keras model with optimizer state
  NAME.json, NAME.yaml, NAME.yml   its architecture alone
  NAME.weights.h5                  its weights alone
  anything else                    a tf.train.Saver checkpoint (prefix of .meta, .index, .data-*)
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from slipway.core.errors import ModelError, UsageError
from slipway.core.events import Emit, Note, silent
from slipway.model import tasks
from slipway.model.mnist import perceptron
from slipway.model.mnist.data import Dataset, Images
from slipway.model.mnist.perceptron import Recipe, Trained, Weights

Kind = Literal["model", "architecture", "weights", "checkpoint"]


@dataclass(frozen=True)
class Saved:
    """files: what was written. variables: their names in it, empty for an architecture."""

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
    Raises UsageError for a selection that fits nothing or is not for a checkpoint, ModelError when writing
    fails.
    """
    kind = kind_of(path)
    _only_checkpoints(kind, variables, rename)
    with tempfile.TemporaryDirectory(prefix="slipway-save-") as scratch:
        weights = Path(scratch) / "weights.npz"
        perceptron.save_weights(weights, result.weights)
        epochs = 0 if result.restored_from else result.recipe.epochs
        steps = epochs * -(-images // result.recipe.batch_size)
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
        perceptron.save_weights(fresh, perceptron.initial(recipe.seed, recipe.hidden))
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
        restored = perceptron.load_weights(weights) if weights.is_file() else None
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


def trained(path: Path, recipe: Recipe, data: Dataset, models: Path, emit: Emit = silent) -> Trained:
    """The perceptron's weights in a saved file, measured on the held-out images.

    Restored once and then remembered in `models`/.restored by the file's content; a remembered file that
    is damaged is restored anew and replaced. Raises ModelError for a file that is damaged, lacks a variable
    or holds another network, UsageError for an architecture.
    """
    memory = remembered(path, recipe, models)
    weights = perceptron.read_weights(memory)
    if weights is None:
        if kind_of(path) == "architecture":
            raise UsageError(f"{path} holds an architecture and no weights", action=_WITH_WEIGHTS)
        emit(Note(f"restoring {path} with TensorFlow"))
        weights = restore(path, recipe, data, emit=emit).weights
        if weights is None:
            raise ModelError(
                f"{path} holds another network than the perceptron slipway exports (dense layers from 784 "
                "to 10, ReLU between them)",
                action="export it with its own program (Keras: model.export(DIR)) and set model.path to DIR",
            )
        perceptron.save_weights(memory, weights)
    reached = perceptron.accuracy(weights, data.held_out)
    return Trained(weights, reached, recipe, data.description, data.sha256, path.name)


def remembered(path: Path, recipe: Recipe, models: Path) -> Path:
    """Where the weights of a file with this content are kept once they were restored."""
    digest = hashlib.sha256(repr(recipe.hidden).encode())
    for file in files_of(path):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return models / ".restored" / f"{digest.hexdigest()[:16]}.npz"


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of what was saved as `path`: itself, or a checkpoint's, given by prefix, file or folder.

    Without TensorFlow; empty when there is nothing of that name.
    """
    if path.is_dir():
        return tuple(sorted(file for file in path.iterdir() if file.is_file()))
    if kind_of(path) != "checkpoint":
        return (path,) if path.is_file() else ()
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name)
    parts = re.compile(rf"{re.escape(prefix)}\.(index|data-\d+-of-\d+)")
    beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    return tuple(file for file in beside if parts.fullmatch(file.name))


_WITH_WEIGHTS = "give a checkpoint, a whole model (.keras, .h5) or its weights (.weights.h5)"


def _only_checkpoints(kind: Kind, variables: Sequence[str], rename: Mapping[str, str] | None) -> None:
    if kind != "checkpoint" and (variables or rename):
        raise UsageError("variables are selected and renamed in checkpoints only, not in Keras files")
    if variables and rename:
        raise UsageError("give a selection or a rename map, not both", action="the map selects what it names")
