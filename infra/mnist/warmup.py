"""Warm-up requests of a SavedModel: TFRecords of PredictionLog, and fixed requests made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infra.core.errors import ModelError
from infra.mnist import tfrecord
from infra.mnist.saved_model import DEFAULT_SIGNATURE
from infra.predict import stubs
from infra.predict.requests import FixedRequest


def encode(requests: Iterable[FixedRequest], model: str) -> bytes:
    """The warm-up file that asks a server of `model` these float predict and classify requests."""
    stubs.load()
    from tensorflow.core.example import example_pb2
    from tensorflow.core.framework import types_pb2
    from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2

    records = []
    for request in requests:
        log = prediction_log_pb2.PredictionLog()
        asked: Any
        if request.method == "predict":
            asked = predict_pb2.PredictRequest()
            for key, array in request.inputs.items():
                tensor = asked.inputs[key]
                tensor.dtype = types_pb2.DT_FLOAT
                for size in array.shape:
                    tensor.tensor_shape.dim.add(size=size)
                tensor.tensor_content = array.astype("<f4").tobytes()
            log.predict_log.request.CopyFrom(asked)
            spec = log.predict_log.request.model_spec
        else:
            asked = classification_pb2.ClassificationRequest()
            for example in request.examples:
                message = example_pb2.Example()
                for name, values in example.items():
                    message.features.feature[name].float_list.value.extend(values.tolist())
                asked.input.example_list.examples.append(message)
            log.classify_log.request.CopyFrom(asked)
            spec = log.classify_log.request.model_spec
        spec.name = model
        spec.signature_name = request.signature
        records.append(log.SerializeToString(deterministic=True))
    return tfrecord.encode(records)


def decode(path: Path) -> tuple[FixedRequest, ...]:
    """The predict and classify requests of a warm-up file, without answers. Loads TensorFlow.

    Other kinds (regress, multi-inference, session runs) are passed over. Raises ModelError naming
    file and record for what is damaged or no PredictionLog.
    """
    stubs.load()
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    out = []
    for number, record in enumerate(tfrecord.read(path), 1):
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise ModelError(f"{path}: record {number} is no PredictionLog: {error}") from error
        kind = log.WhichOneof("log_type")
        try:
            if kind == "predict_log":
                out.append(_predict(log.predict_log.request))
            elif kind == "classify_log":
                out.append(_classify(log.classify_log.request))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path}: record {number} cannot be replayed: {error}") from error
    return tuple(out)


def _predict(request: Any) -> FixedRequest:
    import tensorflow as tf

    inputs = {key: np.asarray(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()}
    return FixedRequest("predict", request.model_spec.signature_name or DEFAULT_SIGNATURE, inputs)


def _classify(request: Any) -> FixedRequest:
    context: Mapping[str, Any] = {}
    listed = request.input.example_list.examples
    if request.input.WhichOneof("kind") == "example_list_with_context":
        context = _features(request.input.example_list_with_context.context)
        listed = request.input.example_list_with_context.examples
    examples = tuple({**context, **_features(example)} for example in listed)
    if not examples or not all(examples):
        raise ValueError("it has no example, or one without features")
    return FixedRequest("classify", request.model_spec.signature_name or DEFAULT_SIGNATURE, examples=examples)


def _features(example: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            values = np.empty(len(feature.bytes_list.value), dtype=object)
            values[:] = list(feature.bytes_list.value)
            out[name] = values
        elif kind == "int64_list":
            out[name] = np.array(feature.int64_list.value, dtype=np.int64)
        else:
            out[name] = np.array(feature.float_list.value, dtype=np.float32)
    return out
