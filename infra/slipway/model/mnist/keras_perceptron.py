"""The network as a Keras model, and its training there. Loads TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras

from slipway.model.mnist.data import CLASSES, PIXELS, Images
from slipway.model.mnist.perceptron import Recipe, Weights, orders


def perceptron(recipe: Recipe, weights: Weights | None = None, steps_done: int = 0) -> Any:
    """The network as a compiled Keras model with the recipe's SGD; `steps_done` is its optimizer's count."""
    hidden = [
        keras.layers.Dense(units, activation="relu", name=f"hidden{number}")
        for number, units in enumerate(recipe.hidden, 1)
    ]
    model = keras.Sequential(
        [
            keras.Input((PIXELS,), name="images"),
            *hidden,
            keras.layers.Dense(CLASSES, activation="softmax", name="logits"),
        ],
        name="perceptron",
    )
    model.compile(
        optimizer=keras.optimizers.SGD(recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    if weights is not None:
        model.set_weights(list(weights))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(steps_done)
    return model


def train(
    model: Any, of: Images, recipe: Recipe, epochs: int, advance: Callable[[int], None] = lambda _done: None
) -> None:
    """Train on for `epochs` more passes, in the order the recipe gives to the epochs after those done.

    How many are done is the optimizer's own count of steps: what a whole-model file brings back.
    """
    per_epoch = -(-len(of) // recipe.batch_size)
    done = int(model.optimizer.iterations.numpy()) // per_epoch
    whole = replace(recipe, epochs=done + epochs)
    for number, order in enumerate(orders(whole, len(of))):
        if number >= done:
            model.fit(
                of.images[order],
                of.labels[order],
                batch_size=recipe.batch_size,
                shuffle=False,  # the order is the recipe's
                verbose=0,
            )
            advance(number + 1 - done)
