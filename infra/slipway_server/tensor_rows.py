"""Tensors joined along their first dimension, and the rows of a joined one."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

from slipway_client.dtypes import DataType

from slipway_server import runtime as rt
from slipway_server import session_tensors
from slipway_server.codes import Code, StatusError


class Rows(rt.Tensor):
    """Some rows of a tensor, read like a tensor of their own; its memory is the tensor's."""

    __slots__ = ("_dtype", "_rows", "_shape", "_start", "_whole")

    def __init__(self, whole: rt.Tensor, start: int, rows: int) -> None:
        self.handle = 0  # nothing to free
        self._whole = whole
        self._dtype = whole.dtype
        self._start = start
        self._rows = rows
        self._shape = (rows, *whole.shape[1:])

    @property
    def dtype(self) -> int:
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def size(self) -> int:
        return self._row_size() * self._rows

    def content(self) -> bytes:
        row = self._row_size()
        return ctypes.string_at(self._whole.data + self._start * row, self._rows * row) if row else b""

    def strings(self, start: int = 0, end: int | None = None) -> list[bytes]:
        elements = math.prod(self._shape[1:])
        first = self._start * elements
        stop = self._rows * elements if end is None else end
        return self._whole.strings(first + start, first + stop)

    def _row_size(self) -> int:
        count = self._whole.shape[0]
        return self._whole.size // count if count else 0


def joined(runtime: rt.Runtime, parts: Sequence[rt.Tensor], padding: int) -> rt.Tensor:
    """The rows of all parts in one tensor, the last part's first row `padding` times behind them.

    The parts have at least a row each, and are equal in dtype and in all dimensions but the first.
    """
    dtype, last = parts[0].dtype, parts[-1]
    shape = (sum(part.shape[0] for part in parts) + padding, *parts[0].shape[1:])
    if dtype == DataType.DT_STRING:
        strings = [text for part in parts for text in part.strings()]
        strings += last.strings(0, math.prod(shape[1:])) * padding
        return rt.tensor_from_proto(runtime, _string_proto(shape, strings))
    row = last.size // last.shape[0]
    whole = rt.new_tensor(runtime, dtype, shape, shape[0] * row)
    at = whole.data
    for part in parts:
        ctypes.memmove(at, part.data, part.size)
        at += part.size
    for _ in range(padding):
        ctypes.memmove(at, last.data, row)
        at += row
    return whole


def split(whole: rt.Tensor, counts: Sequence[int], padded: int) -> list[rt.Tensor]:
    """The rows of each part, of a tensor that has a row for each row of the parts and of the padding.

    Raises StatusError in the words of batching_session.cc (SplitOutputTensors) if it has not.
    """
    shape = whole.shape
    if not shape:
        raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
    if shape[0] != padded:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
            "input tensors",
        )
    out: list[rt.Tensor] = []
    at = 0
    for count in counts:
        out.append(Rows(whole, at, count))
        at += count
    return out


def same_bits(one: rt.Tensor, other: rt.Tensor) -> bool:
    """Whether two tensors are alike to the last bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == DataType.DT_STRING:
        return one.strings() == other.strings()
    return one.content() == other.content()


def _string_proto(shape: Sequence[int], strings: Sequence[bytes]) -> bytes:
    dims = b"".join(session_tensors.field(0x12, b"\x08" + session_tensors.varint(size)) for size in shape)
    values = b"".join(session_tensors.field(0x42, text) for text in strings)
    return b"\x08" + session_tensors.varint(DataType.DT_STRING) + session_tensors.field(0x12, dims) + values
