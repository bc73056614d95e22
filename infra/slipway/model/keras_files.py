"""Keras files: whole models with optimizer state, architectures alone, weights alone. Loads TensorFlow.

The kind of a file is its suffix: .keras and .h5/.hdf5 are whole models, .json and .yaml/.yml the
architecture, .weights.h5 the weights.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf

from slipway.core.errors import ModelError, UsageError
from slipway.model import keras_architecture

_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")


def repeatable(seed: int) -> None:
    """Make this process compute the same bits every time: seeds, ordered sums, one thread an operation.

    Call it before TensorFlow computes anything; the thread number cannot change later.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(1)


def save_model(model: Any, path: Path) -> None:
    """The whole model, optimizer state included; .keras or .h5/.hdf5. Written beside, then renamed."""
    with _beside(path) as target:
        model.save(target)


def save_architecture(model: Any, path: Path) -> None:
    """The architecture alone, as JSON or YAML by the suffix. Written beside, then renamed."""
    text = _architecture(model)
    with _beside(path) as target:
        target.write_text(text if path.suffix == ".json" else keras_architecture.to_yaml(text))


def save_weights(model: Any, path: Path) -> None:
    """The weights alone, without optimizer state, as .weights.h5. Written beside, then renamed."""
    if not path.name.endswith(".weights.h5"):
        raise UsageError(f"{path}: a file of weights alone is called NAME.weights.h5")
    # An uncompiled copy: Keras writes a compiled model's optimizer into the file as well.
    copy = keras.models.model_from_json(_architecture(model))
    copy.set_weights(model.get_weights())
    with _beside(path) as target:
        copy.save_weights(target)


def load_model(path: Path) -> Any:
    """A whole model as it was saved, compiled, its optimizer where it stopped.

    Raises ModelError naming the file if it is missing, truncated or not a whole model.
    """
    _exists(path)
    if path.suffix == ".keras":
        _check_archive(path)
    elif not _h5_has(path, "model_config"):
        raise ModelError(
            f"{path} does not hold a whole model: it has no model_config",
            action="a file of weights alone is called NAME.weights.h5 and needs its architecture",
        )
    with _as_model_error(path):
        model = keras.models.load_model(path)
        if path.suffix != ".keras" and getattr(model, "optimizer", None) is not None:
            _restore_optimizer(model, path)
    return model


def load_architecture(path: Path) -> Any:
    """A model of this architecture with fresh weights, not compiled.

    Raises ModelError naming the file if it is missing or not an architecture.
    """
    _exists(path)
    with _as_model_error(path):
        text = keras_architecture.to_json(path.read_text(encoding="utf-8"), str(path))
        return keras.models.model_from_json(text)


def load_weights(model: Any, path: Path) -> None:
    """Give the model the weights of a .weights.h5 file.

    Raises ModelError naming the file and every variable that is missing, left over or of another
    shape; then the model has not changed.
    """
    _exists(path)
    with tempfile.TemporaryDirectory(prefix="slipway-keras-") as scratch:
        own = Path(scratch) / "own.weights.h5"
        model.save_weights(own)
        wanted = _variables(own)
    held = _variables(path)
    odds = [
        f"{name}: {_shape(held.get(name))} in the file, {_shape(wanted.get(name))} in the model"
        for name in sorted({*held, *wanted})
        if held.get(name) != wanted.get(name)
    ]
    if odds:
        raise ModelError(
            f"the weights of {path} do not fit this model: {len(odds)} variables at odds",
            tail="\n".join(odds),
            action="build the model from the architecture these weights were saved with (--architecture, or "
            "model.hidden for the perceptron's layers)",
        )
    with _as_model_error(path):
        model.load_weights(path)


def _architecture(model: Any) -> str:
    """The model's JSON without how it was compiled, which is not architecture."""
    document = json.loads(model.to_json())
    document.pop("compile_config", None)
    return json.dumps(document, indent=2)


def _restore_optimizer(model: Any, path: Path) -> None:
    """Give the model the optimizer state its HDF5 file holds.

    Keras 3 builds the optimizer of an HDF5 file for the variables of the model itself, without its
    layers': momenta are lost, and the next training step fails on variables it does not know.
    """
    optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    optimizer.build(model.trainable_variables)
    with h5py.File(path) as file:
        group = file.get("optimizer_weights")
        values = [] if group is None else [group[name][()] for name in group.attrs["weight_names"]]
    if values:
        wanted, held = [v.shape for v in optimizer.variables], [v.shape for v in values]
        if wanted != held:
            raise ModelError(
                f"the optimizer state in {path} does not fit its model",
                tail=f"in the file {held}\nof the model {wanted}",
            )
        optimizer.set_weights(values)
    model.optimizer = optimizer


def _variables(path: Path) -> dict[str, tuple[int, ...]]:
    """layer/kernel, layer/bias, ... -> shape, of the model's own variables in a .weights.h5 file."""
    out: dict[str, tuple[int, ...]] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or name.startswith("optimizer/"):
            return
        holder, _, number = name.rpartition("/")
        layer = item.parent.attrs.get("name") or holder
        word = {"0": "kernel", "1": "bias"}.get(number, number) if name.startswith("layers/dense") else number
        out[f"{layer}/{word}"] = tuple(item.shape)

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ModelError(
            f"{path} is truncated or not an HDF5 file", tail=str(error), action=_AGAIN
        ) from error
    return out


_AGAIN = "copy or save the file again"


def _exists(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in _MEMBERS if name not in archive.namelist()]
            broken = None if missing else archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(
            f"{path} is truncated or not a .keras archive", tail=str(error), action=_AGAIN
        ) from error
    if missing:
        raise ModelError(f"{path} is not a Keras model: {', '.join(missing)} missing in it")
    if broken:
        raise ModelError(f"{path} is damaged: {broken} in it", action=_AGAIN)


def _h5_has(path: Path, attribute: str) -> bool:
    try:
        with h5py.File(path) as file:
            return attribute in file.attrs
    except OSError as error:
        raise ModelError(
            f"{path} is truncated or not an HDF5 file", tail=str(error), action=_AGAIN
        ) from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file beside `path` with the same suffixes (Keras goes by them), renamed to it at the end."""
    target = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield target
        target.replace(path)
    except OSError as error:
        raise ModelError(
            f"cannot save {path}", tail=str(error), action="check folder, rights and space"
        ) from error
    finally:
        with suppress(OSError):  # not even there where it cannot be written
            target.unlink()


@contextmanager
def _as_model_error(path: Path) -> Iterator[None]:
    """Keras raises nearly every class there is; each means that this file is not what it should be."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"Keras cannot load {path}", tail=str(error)[:1000], action=_AGAIN) from error


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"[{', '.join(map(str, shape))}]"
