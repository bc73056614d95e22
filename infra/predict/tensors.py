"""numpy arrays <-> TensorProto, byte for byte what TensorFlow's make_tensor_proto writes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from infra.core.errors import UsageError
from infra.predict import stubs
from infra.predict.requests import Array

stubs.load()

from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402  # stubs.load() must come first

TensorProto = Any  # the generated class has no types

LARGEST = 1 << 31  # protobuf's limit on one message

# numpy name -> DataType, field of single values, how the field holds one. make_tensor_proto packs
# more than one value into tensor_content for the types marked so and lists the values for the rest.
_Each = Callable[[Array], list[Any]]


def _plain(flat: Array) -> list[Any]:
    return list(flat.tolist())


def _bits(flat: Array) -> list[Any]:
    return list(flat.view(np.uint16).tolist())


def _pairs(flat: Array) -> list[Any]:
    return [part for item in flat.tolist() for part in (item.real, item.imag)]


_TYPES: dict[str, tuple[int, str, _Each, bool]] = {
    "float32": (types_pb2.DT_FLOAT, "float_val", _plain, True),
    "float64": (types_pb2.DT_DOUBLE, "double_val", _plain, True),
    "float16": (types_pb2.DT_HALF, "half_val", _bits, True),
    "int8": (types_pb2.DT_INT8, "int_val", _plain, True),
    "int16": (types_pb2.DT_INT16, "int_val", _plain, True),
    "int32": (types_pb2.DT_INT32, "int_val", _plain, True),
    "int64": (types_pb2.DT_INT64, "int64_val", _plain, True),
    "uint8": (types_pb2.DT_UINT8, "int_val", _plain, True),
    "uint16": (types_pb2.DT_UINT16, "int_val", _plain, False),
    "uint32": (types_pb2.DT_UINT32, "uint32_val", _plain, True),
    "uint64": (types_pb2.DT_UINT64, "uint64_val", _plain, True),
    "bool": (types_pb2.DT_BOOL, "bool_val", _plain, False),
    "complex64": (types_pb2.DT_COMPLEX64, "scomplex_val", _pairs, False),
    "complex128": (types_pb2.DT_COMPLEX128, "dcomplex_val", _pairs, False),
}
_BY_NUMBER = {number: (name, fieldname) for name, (number, fieldname, _, _) in _TYPES.items()}


def dtype_name(number: int) -> str:
    """A DataType's number -> numpy's name ("string" for DT_STRING), or DT_... when numpy has none."""
    if number == types_pb2.DT_STRING:
        return "string"
    if number in _BY_NUMBER:
        return _BY_NUMBER[number][0]
    try:
        return str(types_pb2.DataType.Name(number))
    except ValueError:
        return f"DataType {number}"


def is_number(name: str) -> bool:
    """Whether TensorFlow has numbers of this numpy name."""
    return name in _TYPES


def dtype_named(name: str) -> str:
    """DT_FLOAT -> float32, for REST, which writes the names."""
    try:
        return dtype_name(types_pb2.DataType.Value(name))
    except ValueError:
        return name


def to_proto(array: Array) -> TensorProto:
    """An array as TensorProto; object, bytes and text arrays become DT_STRING.

    Raises UsageError for a dtype TensorFlow has no counterpart of, and for 2 GiB and more.
    """
    array = np.asarray(array)
    proto = tensor_pb2.TensorProto()
    proto.tensor_shape.SetInParent()  # a scalar's shape is there, and empty
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if array.dtype.kind in "OSU":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(
            item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()
        )
        return proto
    known = _TYPES.get(array.dtype.name)
    if known is None:
        raise UsageError(
            f"TensorFlow has no counterpart of numpy's {array.dtype.name}; expected one of {', '.join(_TYPES)}"
        )
    number, fieldname, each, packed = known
    proto.dtype = number
    if packed and array.size > 1:
        if array.nbytes >= LARGEST:
            raise UsageError(f"a tensor of {array.nbytes} bytes does not fit in one request (2 GiB)")
        proto.tensor_content = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).tobytes()
    else:
        getattr(proto, fieldname).extend(each(array.ravel()))
    return proto


def from_proto(proto: TensorProto) -> Array:
    """A TensorProto as array, from tensor_content or from the typed field of its dtype.

    As in TensorFlow, missing values repeat the last one given. Raises ValueError when content and
    shape disagree, the shape is not known, or numpy has no such dtype.
    """
    if proto.tensor_shape.unknown_rank:
        raise ValueError("a tensor of unknown rank is not an answer")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if any(size < 0 for size in shape):
        raise ValueError(f"a tensor of shape {shape} is not an answer")
    count = math.prod(shape)
    if proto.dtype == types_pb2.DT_STRING:
        strings = np.empty(len(proto.string_val), dtype=object)
        strings[:] = list(proto.string_val)
        return _filled(strings, count).reshape(shape)
    if proto.dtype not in _BY_NUMBER:
        raise ValueError(f"numpy has no {dtype_name(proto.dtype)}")
    name, fieldname = _BY_NUMBER[proto.dtype]
    kind = np.dtype(name)
    if proto.tensor_content:
        if len(proto.tensor_content) != count * kind.itemsize:
            raise ValueError(
                f"{len(proto.tensor_content)} bytes of content for shape {shape} of {name},"
                f" expected {count * kind.itemsize}"
            )
        return np.frombuffer(proto.tensor_content, kind).reshape(shape)
    given = getattr(proto, fieldname)
    if kind.kind == "c":
        parts = np.array(given, np.float32 if name == "complex64" else np.float64)
        flat = parts[: len(parts) // 2 * 2].view(kind)
    elif fieldname == "half_val":
        flat = np.array(given, np.uint16).view(kind)
    else:
        flat = np.array(given).astype(kind) if given else np.empty(0, kind)
    return _filled(flat, count).reshape(shape)


def _filled(flat: Array, count: int) -> Array:
    if len(flat) == count:
        return flat
    if len(flat) > count:
        raise ValueError(f"{len(flat)} values for a shape of {count}")
    if count * flat.itemsize >= LARGEST:
        raise ValueError(f"{len(flat)} values are said to fill a shape of {count}")
    out = np.zeros(count, flat.dtype) if flat.dtype != object else np.full(count, b"", dtype=object)
    if len(flat):
        out[: len(flat)] = flat
        out[len(flat) :] = flat[-1]
    return out
