"""numpy arrays <-> TensorProto, byte for byte what TensorFlow's make_tensor_proto writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from slipway_client import messages
from slipway_client.dtypes import DTYPES, NAMES, NUMBERS, NUMPY, DataType
from slipway_client.errors import UsageError
from slipway_client.json_values import Array

TensorProto = Any  # protobuf's classes are made at run time

LARGEST = 1 << 31  # protobuf's limit on one message


def dtype_name(number: int) -> str:
    """A DataType's number -> numpy's name ("string" for DT_STRING), or DT_... when numpy has none."""
    if number == DataType.DT_STRING:
        return "string"
    known = DTYPES.get(number)
    if known is not None and known.numpy:
        return known.numpy
    return NAMES.get(number, f"DataType {number}")


def is_number(name: str) -> bool:
    """Whether TensorFlow has numbers of this numpy name."""
    return name in NUMPY


def dtype_named(name: str) -> str:
    """DT_FLOAT -> float32, for REST, which writes the names."""
    number = NUMBERS.get(name)
    return name if number is None else dtype_name(number)


def to_proto(array: Array) -> TensorProto:
    """An array as TensorProto; object, bytes and text arrays become DT_STRING.

    Raises UsageError for a dtype TensorFlow has no counterpart of, and for 2 GiB and more.
    """
    array = np.asarray(array)
    proto = messages.TensorProto()
    proto.tensor_shape.SetInParent()  # a scalar's shape is there, and empty
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if array.dtype.kind in "OSU":
        proto.dtype = DataType.DT_STRING
        proto.string_val.extend(
            item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()
        )
        return proto
    number = NUMPY.get(array.dtype.name)
    if number is None:
        raise UsageError(
            f"TensorFlow has no counterpart of numpy's {array.dtype.name}; expected one of {', '.join(NUMPY)}"
        )
    known = DTYPES[number]
    proto.dtype = number
    if known.as_content and array.size > 1:
        if array.nbytes >= LARGEST:
            raise UsageError(f"a tensor of {array.nbytes} bytes does not fit in one request (2 GiB)")
        proto.tensor_content = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).tobytes()
    else:
        getattr(proto, known.field).extend(_listed(array.ravel(), known.field))
    return proto


def _listed(flat: Array, field: str) -> list[Any]:
    """Elements as a field of TensorProto lists them: as they are, by their bits, or part by part."""
    if field == "half_val":
        return list(flat.view(np.uint16).tolist())
    if flat.dtype.kind == "c":
        return [part for item in flat.tolist() for part in (item.real, item.imag)]
    return list(flat.tolist())


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
    if proto.dtype == DataType.DT_STRING:
        strings = np.empty(len(proto.string_val), dtype=object)
        strings[:] = list(proto.string_val)
        return _filled(strings, count).reshape(shape)
    known = DTYPES.get(proto.dtype)
    if known is None or not known.numpy:
        raise ValueError(f"numpy has no {dtype_name(proto.dtype)}")
    kind = np.dtype(known.numpy)
    if proto.tensor_content:
        if len(proto.tensor_content) != count * kind.itemsize:
            raise ValueError(
                f"{len(proto.tensor_content)} bytes of content for shape {shape} of {known.numpy},"
                f" expected {count * kind.itemsize}"
            )
        return np.frombuffer(proto.tensor_content, kind).reshape(shape)
    given = getattr(proto, known.field)
    if kind.kind == "c":
        parts = np.array(given, known.code)
        flat = parts[: len(parts) // 2 * 2].view(kind)
    elif known.field == "half_val":
        flat = np.array(given, np.uint16).view(kind)
    else:
        wide = np.uint64 if known.field == "uint64_val" else None  # of these numpy would make floats
        flat = np.array(given, wide).astype(kind) if given else np.empty(0, kind)
    return _filled(flat, count).reshape(shape)


def fill_example(example: Any, features: Mapping[str, Array]) -> None:
    """Put features into a tf.Example message: whole numbers as int64, texts as bytes, others as floats."""
    listed = example.features.feature
    for name, values in features.items():
        flat = np.asarray(values).ravel()
        if flat.dtype.kind in "OSU":
            listed[name].bytes_list.value.extend(
                item.encode() if isinstance(item, str) else item for item in flat.tolist()
            )
        elif flat.dtype.kind in "iub":
            listed[name].int64_list.value.extend(flat.tolist())
        else:
            listed[name].float_list.value.extend(flat.tolist())


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
