"""Warm-up requests of a SavedModel: TFRecords of PredictionLog, and fixed requests made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from slipway_client import messages, tfrecord
from slipway_client.dtypes import DataType
from slipway_client.requests import FixedRequest
from slipway_client.tensors import from_proto

from slipway.core.errors import ModelError
from slipway.model.saved_model import DEFAULT_SIGNATURE


def encode(requests: Iterable[FixedRequest], model: str) -> bytes:
    """The warm-up file that asks a server of `model` these float predict and classify requests."""
    records = []
    for request in requests:
        log = messages.PredictionLog()
        if request.method == "predict":
            asked = log.predict_log.request
            for key, array in request.inputs.items():
                tensor = asked.inputs[key]
                tensor.dtype = DataType.DT_FLOAT
                for size in array.shape:
                    tensor.tensor_shape.dim.add(size=size)
                tensor.tensor_content = array.astype("<f4").tobytes()
        else:
            asked = log.classify_log.request
            for example in request.examples:
                features = asked.input.example_list.examples.add().features.feature
                for name, values in example.items():
                    features[name].float_list.value.extend(values.tolist())
        asked.model_spec.name = model
        asked.model_spec.signature_name = request.signature
        records.append(log.SerializeToString(deterministic=True))
    return tfrecord.encode(records)


def decode(path: Path) -> tuple[FixedRequest, ...]:
    """The predict and classify requests of a warm-up file, without answers.

    Other kinds (regress, multi-inference, session runs) are passed over. Raises ModelError naming
    file and record for what is damaged or not a PredictionLog.
    """
    out = []
    for number, record in enumerate(_records(path), 1):
        try:
            log = messages.PredictionLog.FromString(record)
        except DecodeError as error:
            raise ModelError(f"{path}: record {number} is not a PredictionLog: {error}") from error
        kind = log.WhichOneof("log_type")
        try:
            if kind == "predict_log":
                out.append(_predict(log.predict_log.request))
            elif kind == "classify_log":
                out.append(_classify(log.classify_log.request))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path}: record {number} cannot be replayed: {error}") from error
    return tuple(out)


def _records(path: Path) -> Iterator[bytes]:
    try:
        yield from tfrecord.read(path)
    except tfrecord.Damaged as error:
        raise ModelError(f"{path} is {error}") from error


def _predict(request: Any) -> FixedRequest:
    inputs = {key: from_proto(tensor) for key, tensor in request.inputs.items()}
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
