"""TensorFlow's side of saved_files: the perceptron saved and restored in each form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from slipway.core.errors import ModelError
from slipway.model import keras_files, saver
from slipway.model.mnist import graph, keras_perceptron, perceptron
from slipway.model.mnist.data import Floats, Images
from slipway.model.mnist.perceptron import Recipe, Weights

tf1 = tf.compat.v1
Answer = dict[str, Any]


@dataclass(frozen=True)
class RestoreArguments:
    """saved_files.restore's arguments as they arrive; paths absolute, images and weights as .npz."""

    kind: str
    path: Path
    recipe: Recipe
    fresh: Path
    images: Path
    weights: Path
    selection: saver.Selection
    architecture: Path | None
    epochs: int
    to: Path | None
    to_kind: str | None


def save(
    kind: str, path: Path, weights: Weights, recipe: Recipe, *, steps: int, selection: saver.Selection
) -> Answer:
    """Write these weights in this form. Returns the files and the names of the variables in them."""
    if kind == "checkpoint":
        with _session(weights) as session:
            prefix = saver.save(session, path, selection)
        return _checkpoint_files(prefix)
    keras_files.repeatable(recipe.seed)
    return _save_keras(keras_perceptron.perceptron(recipe, weights, steps), kind, path)


def restore(arguments: RestoreArguments, advance: Callable[[int], None]) -> Answer:
    """Restore, measure, train on, save again: see saved_files.restore."""
    keras_files.repeatable(arguments.recipe.seed)
    with np.load(arguments.images) as file:
        held_out = Images(file["held_out_images"], file["held_out_labels"])
        train = Images(file["train_images"], file["train_labels"]) if arguments.epochs else None
    if arguments.kind == "checkpoint":
        return _restore_checkpoint(arguments, held_out)
    recipe, path = arguments.recipe, arguments.path
    names: list[str] = []
    if arguments.kind == "model":
        model = keras_files.load_model(path)
        names = _names(model)
    elif arguments.kind == "architecture":
        model = keras_files.load_architecture(path)
    else:
        model = (
            keras_perceptron.perceptron(recipe)
            if arguments.architecture is None
            else keras_files.load_architecture(arguments.architecture)
        )
        keras_files.load_weights(model, path)
        names = _names(model)
    if model.input_shape[1:] != (held_out.images.shape[1],):
        raise ModelError(
            f"{path} takes inputs {model.input_shape[1:]}, MNIST's images are ({held_out.images.shape[1]},)"
        )
    fresh = perceptron.load_weights(arguments.fresh)
    if arguments.kind == "architecture" and _shapes(model) == tuple(values.shape for values in fresh):
        model.set_weights(list(fresh))
    if train is not None:
        if getattr(model, "optimizer", None) is None:
            raise ModelError(f"{path} was saved without an optimizer, so training cannot go on")
        keras_perceptron.train(model, train, recipe, arguments.epochs, advance)
    answers = model(held_out.images).numpy()
    if _computes_as_the_perceptron(model, held_out, answers):
        perceptron.save_weights(arguments.weights, tuple(model.get_weights()))
    optimizer = getattr(model, "optimizer", None)
    answer = {
        "restored": names,
        "kept": [] if names else _names(model),
        "accuracy": float(np.mean(answers.argmax(axis=1) == held_out.labels)),
        "steps": int(optimizer.iterations.numpy()) if arguments.kind == "model" and optimizer else None,
    }
    if arguments.to is not None and arguments.to_kind is not None:
        answer |= _save_keras(model, arguments.to_kind, arguments.to)
    return answer


def _restore_checkpoint(arguments: RestoreArguments, held_out: Images) -> Answer:
    with _session(perceptron.load_weights(arguments.fresh)) as session:
        result = saver.restore(session, arguments.path, arguments.selection)
        variables = session.graph.get_collection(tf1.GraphKeys.GLOBAL_VARIABLES)
        weights = tuple(session.run(variables))
        perceptron.save_weights(arguments.weights, weights)
        answer = {
            "restored": list(result.restored),
            "kept": list(result.kept),
            "accuracy": perceptron.accuracy(weights, held_out),
            "steps": None,
        }
        if arguments.to is not None:
            answer |= _checkpoint_files(saver.save(session, arguments.to))
    return answer


def _session(weights: Weights) -> Any:
    """A session on a graph of its own that holds the network with these weights."""
    with tf.Graph().as_default() as own:
        variables = graph.make_variables(weights)
        session = tf1.Session(graph=own)
        graph.set_variables(session, variables, weights)
    return session


def _checkpoint_files(prefix: Path) -> Answer:
    files = sorted(str(file) for file in prefix.parent.iterdir() if file.name.startswith(f"{prefix.name}."))
    return {"files": files, "variables": list(saver.contents(prefix))}


def _save_keras(model: Any, kind: str, path: Path) -> Answer:
    if kind == "model":
        keras_files.save_model(model, path)
    elif kind == "architecture":
        keras_files.save_architecture(model, path)
    else:
        keras_files.save_weights(model, path)
    return {"files": [str(path)], "variables": [] if kind == "architecture" else _names(model)}


def _names(model: Any) -> list[str]:
    """layer/kernel and so on: as checkpoints call them, without the model's own name."""
    return [weight.path.removeprefix(f"{model.name}/") for weight in model.weights]


def _shapes(model: Any) -> tuple[perceptron.Shape, ...]:
    return tuple(tuple(weight.shape) for weight in model.weights)


def _computes_as_the_perceptron(model: Any, images: Images, answers: Floats) -> bool:
    """Whether the perceptron with this model's weights gives the model's answers, scores or logits.

    Shapes alone do not tell: another activation between the same layers is another network.
    """
    if not perceptron.is_perceptron(_shapes(model)):
        return False
    scores = perceptron.scores(tuple(model.get_weights()), images.images)
    return any(np.allclose(scores, each, atol=1e-4) for each in (answers, perceptron.softmax(answers)))
