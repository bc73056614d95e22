"""Warm-up requests of a SavedModel: TFRecords of PredictionLog, and fixed requests made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from slipway_client import messages, tfrecord
from slipway_client.interface import classification
from slipway_client.requests import Array, FixedRequest, Method
from slipway_client.tensors import fill_example, from_proto, to_proto

from slipway.core.errors import ModelError
from slipway.model.saved_model import DEFAULT_SIGNATURE


def encode(requests: Iterable[FixedRequest], model: str) -> bytes:
    """The warm-up file that asks a server of `model` these requests."""
    records = []
    for request in requests:
        log = messages.PredictionLog()
        asked = getattr(log, f"{request.method}_log").request
        for key, array in request.inputs.items():
            asked.inputs[key].CopyFrom(to_proto(array))
        for example in request.examples:
            fill_example(asked.input.example_list.examples.add(), example)
        asked.model_spec.name = model
        asked.model_spec.signature_name = request.signature
        records.append(log.SerializeToString(deterministic=True))
    return tfrecord.encode(records)


def decode(path: Path) -> tuple[FixedRequest, ...]:
    """The predict, classify and regress requests of a warm-up file, with the answers that stand beside them.

    Other kinds (multi-inference, session runs) are passed over. Raises ModelError naming
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
                out.append(_predict(log.predict_log))
            elif kind == "classify_log":
                classes = log.classify_log.response.result.classifications
                rows = [[(one.label.encode(), one.score) for one in row.classes] for row in classes]
                out.append(_of_examples("classify", log.classify_log, classification(rows) if rows else None))
            elif kind == "regress_log":
                values = [one.value for one in log.regress_log.response.result.regressions]
                given = {"outputs": np.array(values, np.float32)} if values else None
                out.append(_of_examples("regress", log.regress_log, given))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path}: record {number} cannot be replayed: {error}") from error
    return tuple(out)


def _records(path: Path) -> Iterator[bytes]:
    try:
        yield from tfrecord.read(path)
    except tfrecord.Damaged as error:
        raise ModelError(f"{path} is {error}") from error


def _predict(log: Any) -> FixedRequest:
    spec = log.request.model_spec
    inputs, outputs = (
        {key: from_proto(tensor) for key, tensor in sorted(tensors.items())}
        for tensors in (log.request.inputs, log.response.outputs)
    )
    return FixedRequest("predict", spec.signature_name or DEFAULT_SIGNATURE, inputs, expected=outputs or None)


def _of_examples(method: Method, log: Any, expected: Mapping[str, Array] | None) -> FixedRequest:
    request = log.request
    context: Mapping[str, Any] = {}
    listed = request.input.example_list.examples
    if request.input.WhichOneof("kind") == "example_list_with_context":
        context = _features(request.input.example_list_with_context.context)
        listed = request.input.example_list_with_context.examples
    examples = tuple({**context, **_features(example)} for example in listed)
    if not examples or not all(examples):
        raise ValueError("it has no example, or one without features")
    signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
    return FixedRequest(method, signature, examples=examples, expected=expected)


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
