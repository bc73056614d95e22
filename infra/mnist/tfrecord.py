"""TFRecord files: length, masked CRC-32C of the length, data, masked CRC-32C of the data."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from infra.core.errors import ModelError

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reversed


def _table() -> tuple[int, ...]:
    out = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        out.append(crc)
    return tuple(out)


_TABLE = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C of data, rotated and offset as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def encode(records: Iterable[bytes]) -> bytes:
    """The content of a TFRecord file with these records."""
    out = bytearray()
    for record in records:
        length = struct.pack("<Q", len(record))
        out += length + struct.pack("<I", masked_crc(length))
        out += record + struct.pack("<I", masked_crc(record))
    return bytes(out)


def read(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, in order.

    Raises ModelError naming the file and the record that is truncated or whose checksum is wrong.
    """
    raw = path.read_bytes()
    at, number = 0, 0
    while at < len(raw):
        number += 1
        if len(raw) - at < 12:
            raise ModelError(f"{path} is truncated in record {number}")
        (length,) = struct.unpack_from("<Q", raw, at)
        (length_crc,) = struct.unpack_from("<I", raw, at + 8)
        if masked_crc(raw[at : at + 8]) != length_crc:
            raise ModelError(f"{path} is no TFRecord file, or damaged: checksum of record {number}'s length")
        data = raw[at + 12 : at + 12 + length]
        if len(raw) - at - 16 < length:
            raise ModelError(f"{path} is truncated in record {number}")
        (data_crc,) = struct.unpack_from("<I", raw, at + 12 + length)
        if masked_crc(data) != data_crc:
            raise ModelError(f"{path} is damaged: checksum of record {number}")
        yield data
        at += 16 + length
