"""The perceptron (784-256-256-10 unless set otherwise) and its training, in plain numpy: repeatable,
no start-up time."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from slipway.core import extras
from slipway.core.errors import ModelError
from slipway.core.events import Emit, Note, progress, silent
from slipway.core.state import write_atomically
from slipway.model.mnist.data import CLASSES, PIXELS, Dataset, Floats, Images

HIDDEN = (256, 256)
Weights = tuple[Floats, ...]  # kernel [in, out] and bias [out] of each layer, from the images to the logits
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """Training hyperparameters; with the data they fix the weights bit for bit (on one CPU type)."""

    epochs: int = 50
    batch_size: int = 16
    learning_rate: float = 0.01
    seed: int = 1
    hidden: tuple[int, ...] = HIDDEN

    @property
    def layers(self) -> tuple[int, ...]:
        """Units from the images to the logits."""
        return (PIXELS, *self.hidden, CLASSES)

    def fingerprint(self, data_sha256: str) -> str:
        """Equal exactly when training would see the same recipe, network and data."""
        decides = {**asdict(self), "layers": self.layers, "data": data_sha256}
        del decides["hidden"]  # layers says it
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Trained:
    """accuracy: share of 1 on the held-out images. restored_from: the file the weights come from instead
    of from the recipe, "" when they were trained by it."""

    weights: Weights
    accuracy: float
    recipe: Recipe
    data: str
    data_sha256: str
    restored_from: str = ""


def names(weights: Sequence[object]) -> tuple[str, ...]:
    """TensorFlow's variable names, kernel and bias of each layer: what checkpoints and exports call them."""
    layers = [*(f"hidden{number}" for number in range(1, len(weights) // 2)), "logits"]
    return tuple(f"{layer}/{part}" for layer in layers for part in ("kernel", "bias"))


def shapes(layers: Sequence[int]) -> tuple[Shape, ...]:
    """The shapes of the weights between these layers."""
    return tuple(
        shape for rows, columns in itertools.pairwise(layers) for shape in ((rows, columns), (columns,))
    )


def is_perceptron(found: Sequence[Shape]) -> bool:
    """Whether weights of these shapes lead from MNIST's images to its classes, layer by layer."""
    layers = (PIXELS, *(shape[-1] for shape in found[1::2] if shape))
    return bool(found) and tuple(found) == shapes(layers) and layers[-1] == CLASSES


def initial(seed: int, hidden: Sequence[int] = HIDDEN) -> Weights:
    """Fresh weights: Glorot uniform kernels, zero biases."""
    random = np.random.default_rng([seed, 0])
    out: list[Floats] = []
    for shape in shapes((PIXELS, *hidden, CLASSES)):
        if len(shape) == 1:
            out.append(np.zeros(shape, np.float32))
        else:
            limit = np.sqrt(6.0 / sum(shape))
            out.append(random.uniform(-limit, limit, shape).astype(np.float32))
    return tuple(out)


def scores(weights: Weights, images: Floats) -> Floats:
    """Softmax probabilities, [n, 10]."""
    return softmax(_forward(weights, images)[-1])


def accuracy(weights: Weights, of: Images) -> float:
    """Share of images whose highest score is their label."""
    return float(np.mean(scores(weights, of.images).argmax(axis=1) == of.labels))


def orders(recipe: Recipe, count: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The order of the images in each epoch, from the seed and the epoch's number alone."""
    for epoch in range(recipe.epochs):
        yield np.random.default_rng([recipe.seed, 1, epoch]).permutation(count)


def train(recipe: Recipe, data: Dataset, emit: Emit = silent) -> Trained:
    """Learn `data.train` by plain SGD on softmax cross-entropy and measure on `data.held_out`.

    Same recipe, data and kind of machine give the same bits. Raises ModelError when the weights stop
    being finite numbers (a learning rate too high), naming the epoch; EnvironmentFault where the extra
    for training is not installed.
    """
    extras.need("train", "training a model")
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

    weights = initial(recipe.seed, recipe.hidden)
    step = np.float32(recipe.learning_rate)
    targets = np.eye(CLASSES, dtype=np.float32)[data.train.labels]
    label = f"training {recipe.epochs} epochs on {len(data.train):,} images"
    # One BLAS thread: how sums are cut among threads changes their last bits, and at this size
    # (16 rows) more threads are slower.
    with threadpool_limits(1, "blas"), progress(emit, label, recipe.epochs) as advance:
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, once, by epoch
            for epoch, order in enumerate(orders(recipe, len(data.train)), 1):
                for start in range(0, len(order), recipe.batch_size):
                    rows = order[start : start + recipe.batch_size]
                    _descend(weights, data.train.images[rows], targets[rows], step)
                if not all(np.isfinite(values).all() for values in weights):
                    raise ModelError(
                        f"training diverged in epoch {epoch}: its weights are not finite numbers",
                        action=f"lower model.learning_rate (now {recipe.learning_rate:g})",
                    )
                advance(epoch)
        reached = accuracy(weights, data.held_out)
    return Trained(weights, reached, recipe, data.description, data.sha256)


def trained(recipe: Recipe, data: Dataset, models: Path, emit: Emit = silent) -> Trained:
    """`train`, remembered in `models`/.trained by recipe and data: export and save need not repeat it.

    A remembered file that is damaged is trained anew and replaced.
    """
    path = models / ".trained" / f"{recipe.fingerprint(data.sha256)[:16]}.npz"
    weights = read_weights(path)
    if weights is not None:
        return Trained(weights, accuracy(weights, data.held_out), recipe, data.description, data.sha256)
    result = train(recipe, data, emit)
    emit(Note(f"accuracy {result.accuracy:.3f} on {len(data.held_out):,} held-out images"))
    _write(path, result.weights)
    return result


def save_weights(path: Path, weights: Weights) -> None:
    """The weights as a .npz by their names, written beside and renamed into place."""
    _write(path, weights)


def read_weights(path: Path) -> Weights | None:
    """The weights of a .npz made by save_weights; None if it is missing or damaged."""
    try:
        # opened here: numpy leaves a damaged file open
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            weights = tuple(file[name] for name in names(file.files))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    right = is_perceptron([values.shape for values in weights])
    return weights if right and all(values.dtype == np.float32 for values in weights) else None


def load_weights(path: Path) -> Weights:
    """The weights of a .npz made by save_weights. Raises ModelError when it is not one."""
    weights = read_weights(path)
    if weights is None:
        raise ModelError(f"{path} is not a .npz of a perceptron's weights as slipway writes it")
    return weights


def _forward(weights: Weights, images: Floats) -> list[Floats]:
    """Inputs, the activations of each hidden layer, logits."""
    out = [images]
    for layer in range(0, len(weights), 2):
        values = out[-1] @ weights[layer] + weights[layer + 1]
        out.append(np.maximum(values, 0) if layer + 2 < len(weights) else values)
    return out


def softmax(logits: Floats) -> Floats:
    """Probabilities, row by row, that never overflow."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _descend(weights: Weights, images: Floats, targets: Floats, step: np.float32) -> None:
    """One SGD step in place on the mean cross-entropy of this batch."""
    *activations, logits = _forward(weights, images)
    gradient = (softmax(logits) - targets) / np.float32(len(images))
    for layer in range(len(weights) - 2, -1, -2):
        inputs = activations[layer // 2]
        kernel, bias = inputs.T @ gradient, gradient.sum(axis=0)
        if layer:
            gradient = (gradient @ weights[layer].T) * (inputs > 0)
        weights[layer][...] -= step * kernel
        weights[layer + 1][...] -= step * bias


def _write(path: Path, weights: Weights) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(zip(names(weights), weights, strict=True)))  # type: ignore[arg-type]  # names are the keywords
    write_atomically(path, buffer.getvalue())
