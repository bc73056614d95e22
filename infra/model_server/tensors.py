"""TensorProto to TensorFlow's tensors and back, within bounds.

Answers carry packed value fields (float_val and so on), never tensor_content: that is what
TensorFlow Serving sends and what public clients read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.model_server import runtime as rt
from infra.model_server.status import Code, StatusError, invalid
from infra.predict import stubs

stubs.load()
from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402  # needs the bare namespace

# A TensorProto may claim a large shape and carry one value that fills it. TensorFlow allocates the
# claim; a caller must not be able to take that much memory with a few bytes.
LARGEST_TENSOR = 64 * 1024 * 1024


@dataclass(frozen=True)
class Kind:
    """How a dtype lies in memory and in a TensorProto.

    size: bytes per element. field: TensorProto's repeated field. view: struct code of the memory,
    or "" when memory and packed field are the same bytes. tag: the packed field's wire tag then.
    """

    size: int
    field: str
    view: str = ""
    tag: bytes = b""


# TensorProto's field numbers: float_val 5, double_val 6, scomplex_val 9, bool_val 11, dcomplex_val 12.
# Packed fixed-width fields are the elements' own little-endian bytes; so are packed bools, 0 or 1.
KINDS: dict[int, Kind] = {
    types_pb2.DT_FLOAT: Kind(4, "float_val", tag=b"\x2a"),
    types_pb2.DT_DOUBLE: Kind(8, "double_val", tag=b"\x32"),
    types_pb2.DT_COMPLEX64: Kind(8, "scomplex_val", tag=b"\x4a"),
    types_pb2.DT_COMPLEX128: Kind(16, "dcomplex_val", tag=b"\x62"),
    types_pb2.DT_BOOL: Kind(1, "bool_val", tag=b"\x5a"),
    types_pb2.DT_INT8: Kind(1, "int_val", "b"),
    types_pb2.DT_INT16: Kind(2, "int_val", "h"),
    types_pb2.DT_INT32: Kind(4, "int_val", "i"),
    types_pb2.DT_UINT8: Kind(1, "int_val", "B"),
    types_pb2.DT_UINT16: Kind(2, "int_val", "H"),
    types_pb2.DT_QINT8: Kind(1, "int_val", "b"),
    types_pb2.DT_QINT16: Kind(2, "int_val", "h"),
    types_pb2.DT_QINT32: Kind(4, "int_val", "i"),
    types_pb2.DT_QUINT8: Kind(1, "int_val", "B"),
    types_pb2.DT_QUINT16: Kind(2, "int_val", "H"),
    types_pb2.DT_INT64: Kind(8, "int64_val", "q"),
    types_pb2.DT_UINT32: Kind(4, "uint32_val", "I"),
    types_pb2.DT_UINT64: Kind(8, "uint64_val", "Q"),
    types_pb2.DT_HALF: Kind(2, "half_val", "H"),
    types_pb2.DT_BFLOAT16: Kind(2, "half_val", "H"),
}


def dtype_name(dtype: int) -> str:
    """DT_FLOAT and so on; the number itself for one this protocol version does not know."""
    try:
        return str(types_pb2.DataType.Name(dtype))
    except ValueError:
        return str(dtype)


def decode(runtime: rt.Runtime, alias: str, proto: Any) -> rt.Tensor:
    """The tensor a request's TensorProto describes.

    Raises StatusError INVALID_ARGUMENT when dtype, shape and content do not agree, or when the shape
    claims more than LARGEST_TENSOR bytes; nothing of that size is allocated then.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    dtype = proto.dtype
    kind = KINDS.get(dtype)
    if kind is None and dtype != types_pb2.DT_STRING:
        raise invalid(f"tensor parsing error: {alias} (dtype {dtype_name(dtype)} is not served)")
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise invalid(f"tensor parsing error: {alias} (shape {_shape(proto)} is not known in full)")
    claimed = math.prod(shape) * (kind.size if kind else rt.TSTRING_BYTES)
    content = proto.tensor_content
    if kind is not None and content and len(content) == claimed:
        return rt.tensor_from_content(runtime, dtype, shape, content)
    if claimed > max(LARGEST_TENSOR, len(content)):
        raise invalid(
            f"tensor parsing error: {alias} (shape {_shape(proto)} of {dtype_name(dtype)} needs {claimed} "
            f"bytes, the most this server takes for one tensor is {LARGEST_TENSOR})"
        )
    try:
        return rt.tensor_from_proto(runtime, proto.SerializeToString())
    except StatusError as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def encode(tensor: rt.Tensor) -> bytes:
    """The serialized TensorProto of an answer."""
    dtype, shape = tensor.dtype, tensor.shape
    kind = KINDS.get(dtype)
    if kind is not None and kind.tag:
        content = tensor.content()
        dims = b"".join(field(0x12, b"\x08" + varint(size) if size else b"") for size in shape)
        head = b"\x08" + varint(dtype) + field(0x12, dims)
        return head + kind.tag + varint(len(content)) + content if content else head
    proto = tensor_pb2.TensorProto(dtype=dtype)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if kind is not None:
        getattr(proto, kind.field).extend(values(tensor))
    elif dtype == types_pb2.DT_STRING:
        proto.string_val.extend(tensor.strings())
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"an output of dtype {dtype_name(dtype)} cannot be sent to a client"
        )
    serialized: bytes = proto.SerializeToString()
    return serialized


def values(tensor: rt.Tensor) -> list[Any]:
    """The elements of a tensor of integers or half-width floats, the latter as their bit patterns."""
    content = tensor.content()
    kind = KINDS[tensor.dtype]
    return list(struct.unpack(f"<{len(content) // kind.size}{kind.view}", content))


def field(tag: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field; `tag` is field number * 8 + 2, below 128."""
    return bytes((tag,)) + varint(len(payload)) + payload


def varint(number: int) -> bytes:
    """A non-negative number as protobuf's varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def shape_text(shape: Sequence[int]) -> str:
    """[2,10], as TensorFlow prints a shape."""
    return f"[{','.join(str(size) for size in shape)}]"


def _shape(proto: Any) -> str:
    if proto.tensor_shape.unknown_rank:
        return "<unknown>"
    dims = [dim.size for dim in proto.tensor_shape.dim]
    return shape_text(dims[:8]) if len(dims) <= 8 else f"of rank {len(dims)}"
