"""Warm-up: the requests a SavedModel brings along are answered once before it serves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from infra.model_server.servable import Servable
from infra.model_server.status import Code, StatusError, invalid
from infra.predict import stubs

stubs.load()
from google.protobuf.message import DecodeError  # noqa: E402
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402  # needs the bare namespace

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000


def warm_up(servable: Servable) -> int:
    """Answer the recorded requests of `servable`; how many there were, 0 without such a file.

    Raises StatusError when a record cannot be read or answered: such a version must not serve, as
    in TensorFlow Serving (saved_model_warmup_util.cc).
    """
    path = servable.path / FILE
    if not path.is_file():
        return 0
    count = 0
    for record in records(path):
        count += 1
        if count > MOST_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {path}")
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise invalid(f"Failed to parse warmup record {count} from {path}") from error
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
                raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {other}")
    return count


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its masked CRC-32C, data, the data's masked CRC-32C.

    Raises StatusError DATA_LOSS at a truncated or changed record.
    """
    with path.open("rb") as file:
        while head := file.read(12):
            if len(head) < 12 or _masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
                raise _damaged(path, file.tell())
            (length,) = struct.unpack("<Q", head[:8])
            data = file.read(length)
            foot = file.read(4)
            if len(data) < length or len(foot) < 4 or _masked_crc(data) != struct.unpack("<I", foot)[0]:
                raise _damaged(path, file.tell())
            yield data


def _damaged(path: Path, at: int) -> StatusError:
    return StatusError(
        Code.DATA_LOSS,
        f"corrupted record before byte {at} of {path}. Please verify your warmup data is in TFRecord format.",
    )


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
