"""TFRecord: checksums, round trips, damage anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slipway_client import tfrecord


def test_the_checksum_is_crc32c_masked() -> None:
    crc = 0xE3069283  # the check value of CRC-32C, for the digits 1 to 9
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert tfrecord.masked_crc(b"123456789") == masked


@given(records=st.lists(st.binary(max_size=200), max_size=5))
def test_what_is_written_is_read_back(records: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("records") / "file"
    file.write_bytes(tfrecord.encode(records))
    assert list(tfrecord.read(file)) == records


def test_every_truncation_is_named(tmp_path: Path) -> None:
    whole = tfrecord.encode([b"one", b"two two"])
    first = len(tfrecord.encode([b"one"]))
    for length in set(range(1, len(whole))) - {first}:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(tfrecord.Damaged, match=f"^truncated in record {1 if length < first else 2}$"):
            list(tfrecord.read(tmp_path / "cut"))


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    whole = tfrecord.encode([b"one", b"two two"])
    for at in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[at] ^= 0x10
        (tmp_path / "flipped").write_bytes(bytes(spoiled))
        with pytest.raises(tfrecord.Damaged):
            list(tfrecord.read(tmp_path / "flipped"))


def test_records_are_counted_up_to_the_damage(tmp_path: Path) -> None:
    file = tmp_path / "records"
    whole = tfrecord.encode([b"one", b"", b"three"])
    first = len(tfrecord.encode([b"one"]))
    for length, count in ((len(whole), 3), (len(whole) - 1, 2), (first, 1), (first - 1, 0), (0, 0)):
        file.write_bytes(whole[:length])
        assert tfrecord.count(file) == count
