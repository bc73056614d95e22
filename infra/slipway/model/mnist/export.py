"""Export: models/<name>/<version> with signatures, warm-up and fixed requests; unchanged is a no-op."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import version as package_version
from pathlib import Path

import numpy as np
from slipway_client import requests
from slipway_client.requests import FixedRequest

from slipway.core import extras
from slipway.core.errors import ModelError
from slipway.core.events import Emit, Note, silent
from slipway.core.types import ExportedModel, Outcome
from slipway.model import derived_requests, saved_model, tasks, versions
from slipway.model.mnist import perceptron
from slipway.model.mnist.data import PIXELS, Dataset, Images
from slipway.model.mnist.perceptron import Recipe, Trained
from slipway.model.mnist.signatures import FEATURE, KEYS, PREDICT

FORMAT = 1  # raise it when the files of an export change; every user's next run then exports anew
FIXED_PREDICT = 100
FIXED_CLASSIFY = 10
WARMUP_EACH = 5


def export(
    models: Path,
    name: str,
    recipe: Recipe,
    data: Dataset,
    signature_keys: str = "names",
    *,
    weights: perceptron.Weights | None = None,
    restored_from: str = "",
    emit: Emit = silent,
) -> Outcome[ExportedModel]:
    """Export the model as `models`/`name`/VERSION, the next version when anything changed.

    Trains first unless weights of this recipe and data are remembered in `models`, or `weights` gives
    some; restored_from is what the record then names as their origin. Nothing changed since the newest
    version, files included: no-op. The version is written beside and renamed into place; on failure
    nothing of it stays.
    """
    folder = models / name
    fingerprint = fingerprint_of(recipe, data, signature_keys, weights)
    newest = unchanged(folder, fingerprint)
    if newest is not None:
        value = read(newest, name)
        return Outcome(value, 0, f"{_place(value)} unchanged, accuracy {value.accuracy:.3f}")
    extras.need("train", "exporting a model")  # before a training that would then be in vain
    if weights is None:
        result = perceptron.trained(recipe, data, models, emit)
    else:
        reached = perceptron.accuracy(weights, data.held_out)
        result = Trained(
            weights, reached, recipe, data.description, data.sha256, restored_from or "given weights"
        )
        emit(Note(f"accuracy {reached:.3f} on {len(data.held_out):,} held-out images"))
    folder.mkdir(parents=True, exist_ok=True)
    with versions.beside(folder) as target:
        _write(
            target,
            result,
            data,
            name=name,
            signature_keys=signature_keys,
            fingerprint=fingerprint,
            emit=emit,
        )
        final = versions.into_place(target, folder)
    value = read(final, name)
    emit(Note(f"exported {_place(value)}"))
    origin = f" with the weights of {restored_from}" if restored_from else ""
    return Outcome(
        value, 1, f"{_place(value)} exported{origin}, accuracy {value.accuracy:.3f} ({data.description})"
    )


def planned(
    models: Path,
    name: str,
    recipe: Recipe,
    data: Dataset,
    signature_keys: str,
    *,
    weights: perceptron.Weights | None = None,
) -> list[str]:
    """What `export` would do, one line each; empty when nothing changed."""
    if unchanged(models / name, fingerprint_of(recipe, data, signature_keys, weights)) is not None:
        return []
    training = [training_line(recipe, data.description)] if weights is None else []
    return [*training, export_line(models, name)]


def training_line(recipe: Recipe, images: str) -> str:
    """One line of a plan: what training on these images would do."""
    layers = "-".join(map(str, recipe.layers))
    return f"train {layers}: {recipe.epochs} epochs of batch {recipe.batch_size} on {images}"


def export_line(models: Path, name: str) -> str:
    """One line of a plan: the version that would appear."""
    signatures = f"{PREDICT} and {saved_model.DEFAULT_SIGNATURE}"
    return f"export {name} version {versions.next_version(models / name)} with signatures {signatures}"


def fingerprint_of(
    recipe: Recipe, data: Dataset, signature_keys: str, weights: perceptron.Weights | None
) -> str:
    """Equal exactly when an export would have the same content; given weights need no recipe."""
    parts = [str(FORMAT), signature_keys]
    if weights is None:
        parts.insert(1, recipe.fingerprint(data.sha256))
    else:
        parts += [data.sha256, *(hashlib.sha256(values.tobytes()).hexdigest() for values in weights)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def unchanged(folder: Path, fingerprint: str) -> Path | None:
    """The newest version when it has this fingerprint and all its files are as they were written."""
    there = versions.folders(folder)
    if not there:
        return None
    newest = there[max(there)]
    record = saved_model.read_record(newest)
    if record is None or record.get("fingerprint") != fingerprint:
        return None
    intact = record.get("files_sha256") == saved_model.sha256(newest, without=saved_model.RECORD)
    return newest if intact else None


def read(directory: Path, name: str) -> ExportedModel:
    """The value of an export on disk. Raises ModelError if slipway did not write it."""
    record = saved_model.read_record(directory)
    if record is None:
        raise ModelError(f"{directory} is not an export of slipway: it has no {saved_model.RECORD}")
    return ExportedModel(
        path=directory,
        name=name,
        version=int(directory.name),
        sha256=saved_model.sha256(directory),
        requests=directory / saved_model.REQUESTS,
        accuracy=float(record["accuracy"]),
        data=str(record["data"]),
    )


def fixed_requests(held_out: Images, signature_keys: str) -> tuple[FixedRequest, ...]:
    """The first held-out images as requests of one image each, labels known, answers not yet."""
    key, _ = KEYS[signature_keys]
    predict = [
        FixedRequest(
            "predict",
            PREDICT,
            inputs={key: held_out.images[row : row + 1]},
            labels=(int(held_out.labels[row]),),
        )
        for row in range(min(FIXED_PREDICT, len(held_out)))
    ]
    classify = [
        FixedRequest(
            "classify",
            saved_model.DEFAULT_SIGNATURE,
            examples=({FEATURE: held_out.images[row]},),
            labels=(int(held_out.labels[row]),),
        )
        for row in range(min(FIXED_CLASSIFY, len(held_out)))
    ]
    return (*predict, *classify)


def _write(
    target: Path,
    result: Trained,
    data: Dataset,
    *,
    name: str,
    signature_keys: str,
    fingerprint: str,
    emit: Emit,
) -> None:
    asked = fixed_requests(data.held_out, signature_keys)
    with tempfile.TemporaryDirectory(prefix="slipway-export-") as scratch:
        weights, questions, answers = (Path(scratch) / part for part in ("w.npz", "q.jsonl", "a.jsonl"))
        perceptron.save_weights(weights, result.weights)
        requests.write(questions, asked)
        emit(Note("writing the SavedModel with TensorFlow"))
        tasks.run(
            "write_saved_model",
            {
                "weights": weights,
                "target": target,
                "signature_keys": signature_keys,
                "requests": questions,
                "out": answers,
            },
            emit,
        )
        extra = target / saved_model.REQUESTS.parent
        extra.mkdir(exist_ok=True)
        shutil.copyfile(answers, target / saved_model.REQUESTS)
    first = [request for request in asked if request.method == "predict"][:WARMUP_EACH]
    first += [request for request in asked if request.method == "classify"][:WARMUP_EACH]
    (target / saved_model.WARMUP).write_bytes(derived_requests.encode(first, name))
    record = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "accuracy": result.accuracy,
        "held_out_images": len(data.held_out),
        "data": result.data,
        "data_sha256": result.data_sha256,
        "recipe": None if result.restored_from else asdict(result.recipe),
        "restored_from": result.restored_from or None,
        "layers": [PIXELS, *(len(bias) for bias in result.weights[1::2])],
        "signature_keys": signature_keys,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "tensorflow": _tensorflow_version(),
        },
        "files_sha256": saved_model.sha256(target, without=saved_model.RECORD),
    }
    (target / saved_model.RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def _tensorflow_version() -> str:
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            return package_version(package)
        except ModuleNotFoundError:  # importlib.metadata's PackageNotFoundError is one
            continue
    return "unknown"


def _place(value: ExportedModel) -> str:
    return f"{value.name} version {value.version}"
