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

    __slots__ = ("_dtype", "_row", "_shape", "_start", "_whole")

    def __init__(self, whole: rt.Tensor, dtype: int, row: int, start: int, shape: tuple[int, ...]) -> None:
        """dtype: the tensor's. row: bytes of one of its rows. shape: of the rows from `start`."""
        self.handle = 0  # nothing to free
        self._whole = whole
        self._dtype = dtype
        self._row = row
        self._start = start
        self._shape = shape

    @property
    def dtype(self) -> int:
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def size(self) -> int:
        return self._row * self._shape[0]

    def content(self) -> bytes:
        return ctypes.string_at(self._whole.data + self._start * self._row, self.size) if self._row else b""

    def strings(self, start: int = 0, end: int | None = None) -> list[bytes]:
        elements = math.prod(self._shape[1:])
        first = self._start * elements
        stop = self._shape[0] * elements if end is None else end
        return self._whole.strings(first + start, first + stop)


def joined(runtime: rt.Runtime, parts: Sequence[rt.Tensor], counts: Sequence[int], padding: int) -> rt.Tensor:
    """The rows of all parts in one tensor, the last part's first row `padding` times behind them.

    counts: the rows of each.

    The parts have at least a row each, and are equal in dtype and in all dimensions but the first.
    """
    dtype, last = parts[0].dtype, parts[-1]
    shape = (sum(counts) + padding, *last.shape[1:])
    if dtype == DataType.DT_STRING:
        strings = [text for part in parts for text in part.strings()]
        strings += last.strings(0, math.prod(shape[1:])) * padding
        return rt.tensor_from_proto(runtime, _string_proto(shape, strings))
    row = last.size // counts[-1]
    whole = rt.new_tensor(runtime, dtype, shape, shape[0] * row)
    at = whole.data
    for part, count in zip(parts, counts, strict=True):
        ctypes.memmove(at, part.data, count * row)
        at += count * row
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
    dtype, row, at = whole.dtype, whole.size // padded, 0
    for count in counts:
        out.append(Rows(whole, dtype, row, at, (count, *shape[1:])))
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
