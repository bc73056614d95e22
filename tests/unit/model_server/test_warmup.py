"""Warm-up records: read as TensorFlow's TFRecords, answered before a version serves."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from infra.model_server import warmup
from infra.model_server.status import Code, StatusError
from infra.predict import stubs

from .conftest import Made, StartServer, predict_request
from .protos import example, floats

stubs.load()
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    crc = warmup._masked_crc
    return head + struct.pack("<I", crc(head)) + data + struct.pack("<I", crc(data))


def predict_log(width: int = 784) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = predict_request("any", "predict_images", images=floats([1, width], [0.5]))
    log.predict_log.request.CopyFrom(request)
    return log


def classify_log() -> Any:
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.name = "any"
    log.classify_log.request.input.example_list.examples.append(example(x=[0.5] * 784))
    return log


def test_crc_is_castagnolis() -> None:
    # RFC 3720, B.4: CRC-32C of 32 zero bytes and of 0..31; unmasked as TensorFlow's crc32c.h masks
    for data, expected in ((bytes(32), 0x8A9136AA), (bytes(range(32)), 0x46DD794E)):
        masked = warmup._masked_crc(data)
        rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
        assert (rotated << 15 | rotated >> 17) & 0xFFFFFFFF == expected


@pytest.mark.parametrize("change", ["cut in the length", "cut in the data", "cut in the end", "a bit"])
def test_damaged_records_are_data_loss(tmp_path: Path, change: str) -> None:
    whole = record(b"first") + record(b"second")
    cut = {"cut in the length": 25, "cut in the data": 36, "cut in the end": len(whole) - 1}
    damaged = bytearray(whole[: cut.get(change, len(whole))])
    if change == "a bit":
        damaged[-6] ^= 1
    file = tmp_path / "records"
    file.write_bytes(whole)
    assert list(warmup.records(file)) == [b"first", b"second"]
    file.write_bytes(damaged)
    found = warmup.records(file)
    assert next(found) == b"first"
    with pytest.raises(StatusError, match="TFRecord format") as caught:
        next(found)
    assert caught.value.code is Code.DATA_LOSS


def test_warm_up_comes_before_serving_and_a_failing_one_keeps_a_version_out(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    base = tmp_path / "net"
    for number, logs in ((1, [predict_log(), classify_log()]), (2, [predict_log(3)])):
        shutil.copytree(made.models / "net" / "1", base / str(number))
        file = base / str(number) / warmup.FILE
        file.parent.mkdir()
        file.write_bytes(b"".join(record(log.SerializeToString()) for log in logs))
    (base / "2").rename(tmp_path / "2")
    server = start("--model_name=net", f"--model_base_path={base}")
    assert server.wait_for("version_available")["warmup_requests"] == 2
    (tmp_path / "2").rename(base / "2")
    failed = server.wait_for("version_failed")
    assert (failed["version"], failed["code"]) == (2, "INVALID_ARGUMENT")
    assert "Matrix size-incompatible" in failed["error"]
    assert server.states("net") == {1: "AVAILABLE", 2: "END"}
