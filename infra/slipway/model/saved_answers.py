"""What TensorFlow itself answers from a SavedModel. Loads it: run this in a process of its own (tasks)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from slipway_client.requests import FixedRequest

from slipway.core.errors import ModelError
from slipway.model.saved_model import SERVE
from slipway.model.tensorflow_errors import reason

tf1 = tf.compat.v1


def answer(path: Path, requests: Iterable[FixedRequest]) -> tuple[FixedRequest, ...]:
    """The same requests with what TensorFlow answers from the SavedModel at `path` as `expected`.

    Loads it as servers do (tag serve, signatures by name). Raises ModelError naming the request and
    signature TensorFlow does not accept, with its reason.
    """
    config = tf1.ConfigProto(intra_op_parallelism_threads=1)  # as the servers compute one request
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph, config=config) as session:
        try:
            meta = tf1.saved_model.load(session, [SERVE], str(path))
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
