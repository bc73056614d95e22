"""What needs TensorFlow to make and to ask a SavedModel. Run it in a process of its own (tasks)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from infra.core.errors import ModelError
from infra.mnist import network, saved_model
from infra.mnist.data import CLASSES, PIXELS
from infra.mnist.network import Weights
from infra.mnist.tensorflow_errors import reason
from infra.predict.requests import FixedRequest

tf1 = tf.compat.v1

PREDICT = "predict_images"
FEATURE = "x"
SIGNATURE_KEYS = {"names": ("images", "scores"), "tutorial": ("inputs", "outputs")}


def perceptron(images: Any, variables: Iterable[Any]) -> Any:
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
        for name, values in zip(network.names(like), like, strict=True)
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
    images_key, scores_key = SIGNATURE_KEYS[signature_keys]
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        variables = make_variables(weights)
        images = tf1.placeholder(tf.float32, [None, PIXELS], name="images")
        scores = tf.nn.softmax(perceptron(images, variables), name="scores")
        examples = tf1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(examples, {FEATURE: tf.io.FixedLenFeature([PIXELS], tf.float32)})
        values, indices = tf.math.top_k(
            tf.nn.softmax(perceptron(parsed[FEATURE], variables)), CLASSES, name="best_first"
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


def answer(path: Path, requests: Iterable[FixedRequest]) -> tuple[FixedRequest, ...]:
    """The same requests with what TensorFlow answers from the SavedModel at `path` as `expected`.

    Loads it as servers do (tag serve, signatures by name). Raises ModelError naming the request and
    signature TensorFlow does not accept, with its reason.
    """
    config = tf1.ConfigProto(intra_op_parallelism_threads=1)  # as the servers compute one request
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph, config=config) as session:
        try:
            meta = tf1.saved_model.load(session, [saved_model.SERVE], str(path))
        except Exception as error:
            raise ModelError(f"TensorFlow cannot load {path}", tail=reason(error)) from error
        out = []
        for number, request in enumerate(requests, 1):
            signature = meta.signature_def.get(request.signature)
            if signature is None:
                raise ModelError(
                    f"request {number} asks signature {request.signature}, which {path} does not have",
                    action=f"it has {', '.join(sorted(meta.signature_def))}",
                )
            try:
                out.append(replace(request, expected=_ask(session, signature, request)))
            except (tf.errors.OpError, KeyError, ValueError, TypeError) as error:
                raise ModelError(
                    f"TensorFlow does not answer request {number} ({request.signature})", tail=reason(error)
                ) from error
        return tuple(out)


def _ask(session: Any, signature: Any, request: FixedRequest) -> dict[str, Any]:
    if request.method == "classify":
        if len(signature.inputs) != 1:
            raise ValueError(f"it takes inputs {_keys(signature.inputs)}, Classify has one: tf.Examples")
        (examples_input,) = signature.inputs.values()
        serialized = [serialize_example(example) for example in request.examples]
        feed = {examples_input.name: np.array(serialized, dtype=object)}
    else:
        if set(request.inputs) != set(signature.inputs):
            raise ValueError(f"it takes {_keys(signature.inputs)}, the request has {_keys(request.inputs)}")
        feed = {signature.inputs[key].name: value for key, value in request.inputs.items()}
    fetch = {key: tensor.name for key, tensor in signature.outputs.items()}
    answers: dict[str, Any] = session.run(fetch, feed)
    return answers


def _keys(inputs: Iterable[str]) -> str:
    return ", ".join(sorted(inputs))


def serialize_example(example: Any) -> bytes:
    """A tf.Example: floating features as floats, whole numbers as int64, objects as bytes."""
    features = {}
    for name, values in example.items():
        if values.dtype.kind == "O":
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=list(values)))
        elif values.dtype.kind in "iu":
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=values.tolist()))
        else:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=values.tolist()))
        features[name] = feature
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )
    return serialized
