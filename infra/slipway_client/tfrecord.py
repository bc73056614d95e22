"""TFRecord files: length, masked CRC-32C of the length, data, masked CRC-32C of the data."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reversed
_HEAD, _FOOT = 12, 4  # bytes around a record


class Damaged(Exception):
    """The file does not consist of TFRecords, or not to its end.

    record: the damaged one, counted from 1. at: the offset of its length or of its data, as TensorFlow's
    record reader names it.
    """

    def __init__(self, kind: Literal["truncated", "corrupted"], record: int, at: int, what: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.record = record
        self.at = at


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

    Raises Damaged at the record that is truncated or whose checksum is wrong, and OSError. No more memory is
    asked for than the file is long, whatever a record claims.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        at, number = 0, 0
        while head := file.read(_HEAD):
            number += 1
            if len(head) < _HEAD:
                raise Damaged("truncated", number, at, f"truncated in record {number}")
            length, crc = struct.unpack("<QI", head)
            if masked_crc(head[:8]) != crc:
                what = f"not a TFRecord file, or damaged: checksum of record {number}'s length"
                raise Damaged("corrupted", number, at, what)
            at += _HEAD
            if at + length + _FOOT > size:
                raise Damaged("truncated", number, at, f"truncated in record {number}")
            data, foot = file.read(length), file.read(_FOOT)
            if masked_crc(data) != struct.unpack("<I", foot)[0]:
                raise Damaged("corrupted", number, at, f"damaged: checksum of record {number}")
            at += length + _FOOT
            yield data


def masked_crc(data: bytes) -> int:
    """CRC-32C of data, rotated and offset as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    out = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        out.append(crc)
    return tuple(out)


_TABLE = _table()


def count(path: Path) -> int:
    """How many records a file has by their lengths alone; a damaged file counts up to the damage."""
    size, at, number = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while at + _HEAD <= size:
            file.seek(at)
            (length,) = struct.unpack("<Q", file.read(8))
            at += _HEAD + length + _FOOT
            number += at <= size
    return number
