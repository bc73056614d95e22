"""TensorProto to TensorFlow's tensors and back, within bounds.

Answers carry packed value fields (float_val and so on), never tensor_content: that is what
TensorFlow Serving sends and what public clients read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from slipway_client import messages
from slipway_client.dtypes import DTYPES, NAMES, DataType

from slipway_server import runtime as rt
from slipway_server.codes import Code, StatusError, invalid

# A TensorProto may claim a large shape and carry one value that fills it. TensorFlow allocates what is
# claimed; a caller must not be able to take that much memory with a few bytes.
LARGEST_TENSOR = 64 * 1024 * 1024
SMALL = 64 * 1024  # bytes of a tensor that nobody need account for
SLICE = 16 * 1024  # elements that are handled in one go
_COPIES = 4  # of an answer's bytes while it is written and sent, and for each whole number one of 32 bytes


# Of these fields the packed bytes are the elements as they lie in memory (little-endian numbers of a fixed
# width; bools of one byte, 0 or 1), so an answer needs no conversion: field -> its wire tag.
_AS_IN_MEMORY = {
    name: bytes((messages.TensorProto.DESCRIPTOR.fields_by_name[name].number << 3 | 2,))
    for name in ("float_val", "double_val", "scomplex_val", "dcomplex_val", "bool_val")
}


def dtype_name(dtype: int) -> str:
    """DT_FLOAT and so on, or the number itself if this version of the protocol does not have it."""
    return NAMES.get(dtype, str(dtype))


def type_text(dtype: int) -> str:
    """float, int32, string: TensorFlow's own names of dtypes."""
    return dtype_name(dtype).removeprefix("DT_").lower()


Hold = Callable[[int], object]  # claims so many bytes of memory; raises StatusError when there is no room


def decode(runtime: rt.Runtime, alias: str, proto: Any, hold: Hold) -> rt.Tensor:
    """The tensor a request's TensorProto describes. hold: told what its shape needs beside its content.

    Raises StatusError INVALID_ARGUMENT when dtype, shape and content do not agree, or when the shape
    claims more than LARGEST_TENSOR bytes; nothing of that size is allocated then.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    dtype = proto.dtype
    kind = DTYPES.get(dtype)
    if kind is None and dtype != DataType.DT_STRING:
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
    if claimed > SMALL:
        hold(claimed)
    try:
        return rt.tensor_from_proto(runtime, proto.SerializeToString())
    except StatusError as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def encode(tensor: rt.Tensor, hold: Hold) -> list[bytes]:
    """The serialized TensorProto of an answer, in parts. hold: told what it takes before it is written."""
    dtype, shape = tensor.dtype, tensor.shape
    if (size := tensor.size) > SMALL:
        hold(_COPIES * size)
    kind = DTYPES.get(dtype)
    tag = _AS_IN_MEMORY.get(kind.field) if kind is not None else None
    if tag is not None:
        content = tensor.content()
        dims = b"".join(field(0x12, b"\x08" + varint(size) if size else b"") for size in shape)
        head = b"\x08" + varint(dtype) + field(0x12, dims)
        return [head + tag + varint(len(content)), content] if content else [head]
    proto = messages.TensorProto(dtype=dtype)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if kind is not None:
        numbers = getattr(proto, kind.field)
        for some in values(tensor):
            numbers.extend(some)
    elif dtype == DataType.DT_STRING:
        proto.string_val.extend(tensor.strings())
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"an output of dtype {dtype_name(dtype)} cannot be sent to a client"
        )
    return [proto.SerializeToString()]


def values(tensor: rt.Tensor) -> Iterator[memoryview]:
    """The elements of a tensor of integers or half-width floats, the latter as their bit patterns.

    Some at a time: what C does with all of a large one at once keeps every other thread waiting.
    """
    content = numbers_of(tensor)
    for at in range(0, len(content), SLICE):
        yield content[at : at + SLICE]


def numbers_of(tensor: rt.Tensor) -> memoryview[Any]:
    """The elements of a tensor that is not of strings, without making an object of each."""
    code: Any = DTYPES[tensor.dtype].code  # one of those that memoryview knows
    return memoryview(tensor.content()).cast(code)


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
