"""Warm-up records: read as TensorFlow's TFRecords, answered before a version serves."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway_client import messages
from slipway_client.tfrecord import masked_crc
from slipway_server import warmup
from slipway_server.codes import Code, StatusError
from slipway_server.metrics import Metrics

from .conftest import Made, StartServer, predict_request
from .protos import example, floats


def record(data: bytes, length: int | None = None) -> bytes:
    """length: what the head claims, when it is not the truth."""
    head = struct.pack("<Q", len(data) if length is None else length)
    crc = masked_crc
    return head + struct.pack("<I", crc(head)) + data + struct.pack("<I", crc(data))


def predict_log(width: int = 784) -> Any:
    log = messages.PredictionLog()
    request = predict_request("any", "predict_images", images=floats([1, width], [0.5]))
    log.predict_log.request.CopyFrom(request)
    return log


def classify_log() -> Any:
    log = messages.PredictionLog()
    log.classify_log.request.model_spec.name = "any"
    log.classify_log.request.input.example_list.examples.append(example(x=[0.5] * 784))
    return log


def test_crc_is_castagnolis() -> None:
    # RFC 3720, B.4: CRC-32C of 32 zero bytes and of 0..31; unmasked as TensorFlow's crc32c.h masks
    for data, expected in ((bytes(32), 0x8A9136AA), (bytes(range(32)), 0x46DD794E)):
        masked = masked_crc(data)
        rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
        assert (rotated << 15 | rotated >> 17) & 0xFFFFFFFF == expected


@pytest.mark.parametrize(
    ("change", "text"),
    [
        # tensorflow/core/lib/io/record_reader.cc, ReadChecksummed
        (lambda whole: whole[:25], "truncated record at 21"),
        (lambda whole: whole[:36], "truncated record at 33"),
        (lambda whole: whole[:-1], "truncated record at 33"),
        (lambda whole: whole[:33], "truncated record at 33"),
        (lambda whole: whole[:22] + b"!" + whole[23:], "corrupted record at 21"),
        (lambda whole: whole[:-6] + b"!" + whole[-5:], "corrupted record at 33"),
        (lambda whole: whole[:21] + record(b"x", 2**63)[:-1], "truncated record at 33"),
    ],
)
def test_damaged_records_are_data_loss(tmp_path: Path, change: Callable[[bytes], bytes], text: str) -> None:
    whole = record(b"first") + record(b"second")
    file = tmp_path / "records"
    file.write_bytes(whole)
    assert list(warmup.records(file)) == [b"first", b"second"]
    file.write_bytes(change(whole))
    found = warmup.records(file)
    assert next(found) == b"first"
    with pytest.raises(StatusError) as caught:
        next(found)
    assert (caught.value.code, caught.value.message) == (Code.DATA_LOSS, text)


def test_a_file_that_cannot_be_read_fails_the_version_only(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="Is a directory"):
        next(warmup.records(tmp_path))


class Answers:
    """Takes the place of a servable; refuses a request for the model `bad`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warmed = 0

    def predict(self, request: Any, _claim: Any) -> str:
        return str(request.model_spec.name)

    def complete(self, asked: str) -> None:
        if asked == "bad":
            raise StatusError(Code.INVALID_ARGUMENT, "refused")


def recorded(path: Path, *raw: bytes) -> tuple[Any, Metrics]:
    """A servable in `path` whose warm-up file has these bytes, and fresh metrics."""
    file = path / warmup.FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(raw))
    return Answers(path), Metrics()


def test_what_is_counted_of_a_warm_up(tmp_path: Path) -> None:
    # servables/tensorflow/saved_model_warmup_util.cc:226: sound and damaged files are counted, refused
    # requests are not; the file's damage is the label
    log = predict_log().SerializeToString()
    servable, metrics = recorded(tmp_path / "good", record(log), record(log), record(b""))
    warmup.warm_up(servable, metrics)
    assert servable.warmed == 3
    good = f'model_path="{tmp_path}/good",status="OK"'
    assert metrics.warmup_records.lines() == [f":tensorflow:serving:model_warmup_records_read{{{good}}} 3"]
    assert f":tensorflow:serving:model_warmup_latency_count{{{good}}} 1" in metrics.warmup_latency.lines()

    servable, metrics = recorded(tmp_path / "cut", record(log), record(log)[:-1])
    with pytest.raises(StatusError) as caught:
        warmup.warm_up(servable, metrics)
    at = len(record(log)) + 12
    text = f"truncated record at {at}"
    assert caught.value.message == f"{text}. Please verify your warmup data is in TFRecord format."
    assert metrics.warmup_records.lines() == [
        f':tensorflow:serving:model_warmup_records_read{{model_path="{tmp_path}/cut",'
        f'status="DATA_LOSS: {text}"}} 1'
    ]

    bad = predict_log()
    bad.predict_log.request.model_spec.name = "bad"
    servable, metrics = recorded(tmp_path / "bad", record(bad.SerializeToString()))
    with pytest.raises(StatusError, match="refused"):
        warmup.warm_up(servable, metrics)
    assert metrics.warmup_records.lines() == metrics.warmup_latency.lines() == []


def test_records_of_other_kinds_and_too_many(tmp_path: Path) -> None:
    log = messages.PredictionLog()
    log.session_run_log.SetInParent()
    servable, metrics = recorded(tmp_path / "1", record(log.SerializeToString()))
    # saved_model_warmup.cc:71
    with pytest.raises(StatusError, match=r"^Unsupported log_type for warmup: 5$") as caught:
        warmup.warm_up(servable, metrics)
    assert caught.value.code is Code.UNIMPLEMENTED
    servable, metrics = recorded(tmp_path / "2", record(b"\x0a\xff"))
    with pytest.raises(StatusError, match="Failed to parse warmup record 1 from"):
        warmup.warm_up(servable, metrics)
    servable, metrics = recorded(tmp_path / "3", *[record(b"")] * 1001)
    # saved_model_warmup_util.cc:127
    with pytest.raises(StatusError, match=r"^Number of warmup records exceeds the maximum \(1000\) at "):
        warmup.warm_up(servable, metrics)


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
