"""What TensorFlow itself answers from a SavedModel. Loads it: run this in a process of its own (tasks)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from slipway_client import messages
from slipway_client.compare import difference
from slipway_client.json_values import Array, ShapeOnly, dtype_of
from slipway_client.requests import FixedRequest, Recorded
from slipway_client.tensors import fill_example

from slipway.core.errors import ModelError
from slipway.model.saved_model import SERVE
from slipway.model.tensorflow_errors import reason

tf1 = tf.compat.v1


def answer(path: Path, requests: Iterable[FixedRequest]) -> tuple[FixedRequest, ...]:
    """The same requests with what TensorFlow answers from the SavedModel at `path` as `expected`.

    Loads it as servers do (tag serve, signatures by name) and asks each request twice: of an output that is
    not the same both times dtype and shape are recorded, and no values. Raises ModelError naming the request
    and signature TensorFlow does not accept, with its reason.
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
                first, again = (_ask(session, signature, request) for _ in range(2))
            except (tf.errors.OpError, KeyError, ValueError, TypeError) as error:
                raise ModelError(
                    f"TensorFlow does not answer request {number} ({request.signature})",
                    tail=reason(error),
                    action="correct the request; `slipway model inspect` says what the signature takes",
                ) from error
            out.append(request.answered(_alike(request, first, again)))
        return tuple(out)


def _ask(session: Any, signature: Any, request: FixedRequest) -> dict[str, Array]:
    """What a server answers; each output as an array, also where the session gives a bare value."""
    fetch = dict(signature.outputs)
    if request.method == "predict":
        feed = _inputs(signature, request.inputs)
    else:
        wanted = {"classes", "scores"} if request.method == "classify" else {"outputs"}
        fetch = {key: tensor for key, tensor in fetch.items() if key in wanted}
        alone = len(signature.outputs) <= len(wanted)
        if list(signature.inputs) != ["inputs"] or not fetch or not alone:
            raise ValueError(
                f"{request.method} wants the input inputs and {' or '.join(sorted(wanted))} alone, it takes "
                f"{_keys(signature.inputs)} and gives {_keys(signature.outputs)}"
            )
        serialized = np.array([_serialized(example) for example in request.examples], dtype=object)
        feed = {signature.inputs["inputs"].name: serialized}
    found = session.run({key: tensor.name for key, tensor in fetch.items()}, feed)
    # numpy's own bytes lose zeros at their end
    answers = {
        key: np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
        for key, value in sorted(found.items())
    }
    if request.method == "regress":  # servers list one number for each example
        answers = {"outputs": answers["outputs"].reshape(len(request.examples))}
    return answers


def _inputs(signature: Any, given: Mapping[str, Array]) -> dict[str, Any]:
    left_out = set(signature.inputs) - set(given)
    if not set(given) <= set(signature.inputs) or not left_out <= set(signature.defaults):
        raise ValueError(f"it takes {_keys(signature.inputs)}, the request has {_keys(given)}")
    defaults = {key: tf.make_ndarray(signature.defaults[key]) for key in left_out}
    return {signature.inputs[key].name: value for key, value in {**given, **defaults}.items()}


def _alike(request: FixedRequest, first: Mapping[str, Array], again: Mapping[str, Array]) -> Recorded:
    """What both answers have in common: values, or of an output that differs dtype and shape."""
    out: dict[str, Array | ShapeOnly] = {}
    for key, array in first.items():
        if not difference({key: array}, {key: again[key]}, request.tolerance):
            out[key] = array
        elif array.ndim == again[key].ndim:
            sizes = zip(array.shape, again[key].shape, strict=True)
            out[key] = ShapeOnly(dtype_of(array), tuple(one if one == two else -1 for one, two in sizes))
    return out


def _keys(inputs: Iterable[str]) -> str:
    return ", ".join(sorted(inputs)) or "nothing"


def _serialized(features: Mapping[str, Array]) -> bytes:
    example = messages.Example()
    fill_example(example, features)
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized
