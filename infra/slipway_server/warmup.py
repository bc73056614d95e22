"""Warm-up: the requests recorded in a SavedModel are answered once before it serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from slipway_client import messages, tfrecord

from slipway_server.codes import Code, StatusError, invalid
from slipway_server.examples import of_input
from slipway_server.metrics import Metrics
from slipway_server.servable import Servable
from slipway_server.steps import Steps, free

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000


def warm_up(servable: Servable, metrics: Metrics, times: int = 1) -> None:
    """Answer the recorded requests of `servable`, if it has any, and set how many it answered.

    times: how often each is answered.

    Raises StatusError when a record cannot be read or answered: such a version must not serve, as
    in TensorFlow Serving (servables/tensorflow/saved_model_warmup_util.cc:77).
    """
    path = servable.path / FILE
    if not path.exists():
        return
    started = time.perf_counter()
    status, failure = "OK", None
    try:
        for record in records(path):
            for _ in range(times):
                _answer(servable, record, path)
            servable.warmed += 1
            if servable.warmed > MOST_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {path}")
    except Damaged as error:  # counted as upstream counts it, unlike what a request is refused for
        status = f"{error.code.name}: {error.message}"
        failure = StatusError(
            error.code, f"{error.message}. Please verify your warmup data is in TFRecord format."
        )
    metrics.warmup_latency.observe((time.perf_counter() - started) * 1e6, str(servable.path), status)
    metrics.warmup_records.add(str(servable.path), status, amount=servable.warmed)
    if failure is not None:
        raise failure


def _answer(servable: Servable, record: bytes, path: Path) -> None:
    try:
        log = messages.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid(f"Failed to parse warmup record {servable.warmed + 1} from {path}") from error
    steps: Steps[Any]
    match log.WhichOneof("log_type"):
        case "predict_log":
            steps = servable.predict(log.predict_log.request, free)
        case "classify_log":
            request = log.classify_log.request
            steps = servable.classify(request.model_spec, of_input(request.input), free)
        case "regress_log":
            request = log.regress_log.request
            steps = servable.regress(request.model_spec, of_input(request.input), free)
        case "multi_inference_log":
            request = log.multi_inference_log.request
            steps = servable.multi_inference(request.tasks, of_input(request.input), free)
        case None:
            return
        case other:
            number = log.DESCRIPTOR.fields_by_name[other].number
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
    servable.complete(steps)


class Damaged(StatusError):
    """The file does not consist of TFRecords, or not to its end."""

    def __init__(self, error: tfrecord.Damaged) -> None:
        super().__init__(Code.DATA_LOSS, f"{error.kind} record at {error.at}")


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file.

    Raises Damaged with the text and offset of tensorflow/core/lib/io/record_reader.cc, and StatusError when
    the file cannot be read.
    """
    try:
        yield from tfrecord.read(path)
    except tfrecord.Damaged as error:
        raise Damaged(error) from error
    except OSError as error:
        code = Code.PERMISSION_DENIED if isinstance(error, PermissionError) else Code.UNKNOWN
        raise StatusError(code, f"{path}; {error.strerror}") from error
