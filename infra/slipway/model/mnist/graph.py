"""The network as TensorFlow's graph, and its SavedModel. Run it in a process of its own (tasks)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf

from slipway.model import saved_model
from slipway.model.mnist import perceptron
from slipway.model.mnist.data import CLASSES, PIXELS
from slipway.model.mnist.perceptron import Weights
from slipway.model.mnist.signatures import FEATURE, KEYS, PREDICT

tf1 = tf.compat.v1


def logits(images: Any, variables: Iterable[Any]) -> Any:
    """Logits of images [n, 784] by kernel and bias of each layer."""
    values = images
    layers = list(variables)
    for layer in range(0, len(layers), 2):
        values = tf.linalg.matmul(values, layers[layer]) + layers[layer + 1]
        if layer + 2 < len(layers):
            values = tf.nn.relu(values)
    return values


def make_variables(like: Weights) -> list[Any]:
    """Variables in the current graph for weights of these shapes, zero and under the network's names."""
    return [
        tf1.get_variable(name, values.shape, tf.float32, tf1.zeros_initializer(), use_resource=True)
        for name, values in zip(perceptron.names(like), like, strict=True)
    ]


def set_variables(session: Any, variables: Iterable[Any], weights: Weights) -> None:
    """Give the variables these values through their initializers, so that no graph carries weights."""
    for variable, values in zip(variables, weights, strict=True):
        session.run(variable.initializer, {variable.initializer.inputs[1]: values})


def write_saved_model(target: Path, weights: Weights, signature_keys: str) -> None:
    """Write a SavedModel with both signatures into `target`, which must not exist.

    predict_images: images float [n,784] -> scores float [n,10] (`tutorial`: inputs -> outputs).
    serving_default: inputs, serialized tf.Example [n] with feature x float[784] -> classes string
    [n,10] and scores float [n,10], best first.

    A graph and its builder, not tf.saved_model.save: that one writes predict's method name on every
    signature and a random fingerprint; this one writes the same bytes for the same weights.
    """
    images_key, scores_key = KEYS[signature_keys]
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        variables = make_variables(weights)
        images = tf1.placeholder(tf.float32, [None, PIXELS], name="images")
        scores = tf.nn.softmax(logits(images, variables), name="scores")
        examples = tf1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(examples, {FEATURE: tf.io.FixedLenFeature([PIXELS], tf.float32)})
        values, indices = tf.math.top_k(
            tf.nn.softmax(logits(parsed[FEATURE], variables)), CLASSES, name="best_first"
        )
        digits = tf.constant([str(digit) for digit in range(CLASSES)])
        classes = tf.gather(digits, indices, name="classes")
        set_variables(session, variables, weights)
        api = tf1.saved_model
        builder = api.Builder(str(target))
        builder.add_meta_graph_and_variables(
            session,
            [saved_model.SERVE],
            signature_def_map={
                PREDICT: api.predict_signature_def({images_key: images}, {scores_key: scores}),
                saved_model.DEFAULT_SIGNATURE: api.classification_signature_def(examples, classes, values),
            },
            strip_default_attrs=True,  # so that servers older than this TensorFlow can load it
        )
        builder.save()
