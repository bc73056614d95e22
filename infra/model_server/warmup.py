"""Warm-up: the requests a SavedModel brings along are answered once before it serves."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from infra.model_server.metrics import Metrics
from infra.model_server.servable import Servable
from infra.model_server.status import Code, StatusError, invalid
from infra.predict import stubs

stubs.load()
from google.protobuf.message import DecodeError  # noqa: E402
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402  # needs the bare namespace

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000
_HEAD, _FOOT = 12, 4  # bytes around a record


def warm_up(servable: Servable, metrics: Metrics) -> None:
    """Answer the recorded requests of `servable` and tell it how many there were; none without such a file.

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
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid(f"Failed to parse warmup record {servable.warmed + 1} from {path}") from error
    match log.WhichOneof("log_type"):
        case "predict_log":
            servable.predict(log.predict_log.request)
        case "classify_log":
            servable.classify(log.classify_log.request)
        case "regress_log":
            servable.regress(log.regress_log.request)
        case None:
            pass
        case other:
            number = log.DESCRIPTOR.fields_by_name[other].number
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")


class Damaged(StatusError):
    """A file that is not, or not to its end, TFRecords."""

    def __init__(self, kind: Literal["corrupted", "truncated"], at: int) -> None:
        super().__init__(Code.DATA_LOSS, f"{kind} record at {at}")


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its masked CRC-32C, data, the data's masked CRC-32C.

    Raises Damaged with the text and offset of tensorflow/core/lib/io/record_reader.cc, and StatusError when
    the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            at = 0
            while head := file.read(_HEAD):
                if len(head) < _HEAD:
                    raise Damaged("truncated", at)
                if _masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
                    raise Damaged("corrupted", at)
                (length,) = struct.unpack("<Q", head[:8])
                at += _HEAD
                if at + length + _FOOT > size:  # before anything of that length is asked for
                    raise Damaged("truncated", at)
                data, foot = file.read(length), file.read(_FOOT)
                if _masked_crc(data) != struct.unpack("<I", foot)[0]:
                    raise Damaged("corrupted", at)
                at += length + _FOOT
                yield data
    except OSError as error:
        code = Code.PERMISSION_DENIED if isinstance(error, PermissionError) else Code.UNKNOWN
        raise StatusError(code, f"{path}; {error.strerror}") from error


def _table() -> tuple[int, ...]:
    out = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        out.append(crc)
    return tuple(out)


_TABLE = _table()


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
