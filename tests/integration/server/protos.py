"""TensorProtos made and read in the tests, independent of the server's own code."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from slipway_client import messages
from slipway_client.dtypes import DataType

FLOAT, INT32, STRING = DataType.DT_FLOAT, DataType.DT_INT32, DataType.DT_STRING

# dtype -> (field, struct code of one number)
FIELDS = {
    "DT_FLOAT": ("float_val", "f"),
    "DT_DOUBLE": ("double_val", "d"),
    "DT_COMPLEX64": ("scomplex_val", "f"),
    "DT_COMPLEX128": ("dcomplex_val", "d"),
    "DT_BOOL": ("bool_val", "?"),
    "DT_INT8": ("int_val", "b"),
    "DT_INT16": ("int_val", "h"),
    "DT_INT32": ("int_val", "i"),
    "DT_INT64": ("int64_val", "q"),
    "DT_UINT8": ("int_val", "B"),
    "DT_UINT16": ("int_val", "H"),
    "DT_UINT32": ("uint32_val", "I"),
    "DT_UINT64": ("uint64_val", "Q"),
    "DT_QINT8": ("int_val", "b"),
    "DT_QINT16": ("int_val", "h"),
    "DT_QINT32": ("int_val", "i"),
    "DT_QUINT8": ("int_val", "B"),
    "DT_QUINT16": ("int_val", "H"),
    "DT_HALF": ("half_val", "H"),
    "DT_BFLOAT16": ("half_val", "H"),
}


def content(proto: Any) -> Any:
    """The elements' bytes, from the field the dtype belongs in; a list for strings."""
    assert not proto.tensor_content
    name = DataType(proto.dtype).name
    if name == "DT_STRING":
        return list(proto.string_val)
    field, code = FIELDS[name]
    values = getattr(proto, field)
    return struct.pack(f"<{len(values)}{code}", *values)


def tensor(dtype: int, shape: Sequence[int], **fields: Any) -> Any:
    proto = messages.TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def floats(shape: Sequence[int], values: Sequence[float]) -> Any:
    return tensor(FLOAT, shape, float_val=values)


def example(**features: Sequence[float]) -> Any:
    out = messages.Example()
    for name, values in features.items():
        out.features.feature[name].float_list.value.extend(values)
    return out
