"""TensorFlow's element types: number in the protocol, numpy's name, place in a TensorProto.

The one table of them; client, server and REST take what they need from it. Without numpy, which the
server does not load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class DataType(IntEnum):
    """The types a tensor can have, by the names and numbers of the protocol."""

    DT_INVALID = 0
    DT_FLOAT = 1
    DT_DOUBLE = 2
    DT_INT32 = 3
    DT_UINT8 = 4
    DT_INT16 = 5
    DT_INT8 = 6
    DT_STRING = 7
    DT_COMPLEX64 = 8
    DT_INT64 = 9
    DT_BOOL = 10
    DT_QINT8 = 11
    DT_QUINT8 = 12
    DT_QINT32 = 13
    DT_BFLOAT16 = 14
    DT_QINT16 = 15
    DT_QUINT16 = 16
    DT_UINT16 = 17
    DT_COMPLEX128 = 18
    DT_HALF = 19
    DT_RESOURCE = 20
    DT_VARIANT = 21
    DT_UINT32 = 22
    DT_UINT64 = 23
    DT_FLOAT8_E5M2 = 24
    DT_FLOAT8_E4M3FN = 25
    DT_FLOAT8_E4M3FNUZ = 26
    DT_FLOAT8_E4M3B11FNUZ = 27
    DT_FLOAT8_E5M2FNUZ = 28
    DT_INT4 = 29
    DT_UINT4 = 30
    DT_INT2 = 31
    DT_UINT2 = 32
    DT_FLOAT4_E2M1FN = 33


# A graph can also hold references to variables: type N has the number N + 100 then.
_REFERENCE = 100
NAMES: Mapping[int, str] = {
    **{int(known): known.name for known in DataType},
    **{known + _REFERENCE: f"{known.name}_REF" for known in DataType if known},
}
NUMBERS: Mapping[str, int] = {name: number for number, name in NAMES.items()}


@dataclass(frozen=True)
class Dtype:
    """How one type lies in memory and in a TensorProto.

    numpy: numpy's name of it, empty when numpy has no such type; bfloat16 once ml_dtypes is imported.
    size: bytes per element. field: of TensorProto, the repeated one that lists the elements. code: the struct
    module's letter for an element (for its bits where `field` lists bits; for one of its two parts where it
    is complex). as_content: whether TensorFlow's make_tensor_proto writes more than one element into
    tensor_content.
    """

    numpy: str
    size: int
    field: str
    code: str
    as_content: bool = False


DTYPES: Mapping[int, Dtype] = {
    DataType.DT_FLOAT: Dtype("float32", 4, "float_val", "f", as_content=True),
    DataType.DT_DOUBLE: Dtype("float64", 8, "double_val", "d", as_content=True),
    DataType.DT_HALF: Dtype("float16", 2, "half_val", "H", as_content=True),
    DataType.DT_INT8: Dtype("int8", 1, "int_val", "b", as_content=True),
    DataType.DT_INT16: Dtype("int16", 2, "int_val", "h", as_content=True),
    DataType.DT_INT32: Dtype("int32", 4, "int_val", "i", as_content=True),
    DataType.DT_INT64: Dtype("int64", 8, "int64_val", "q", as_content=True),
    DataType.DT_UINT8: Dtype("uint8", 1, "int_val", "B", as_content=True),
    DataType.DT_UINT16: Dtype("uint16", 2, "int_val", "H"),
    DataType.DT_UINT32: Dtype("uint32", 4, "uint32_val", "I", as_content=True),
    DataType.DT_UINT64: Dtype("uint64", 8, "uint64_val", "Q", as_content=True),
    DataType.DT_BOOL: Dtype("bool", 1, "bool_val", "?"),
    DataType.DT_COMPLEX64: Dtype("complex64", 8, "scomplex_val", "f"),
    DataType.DT_COMPLEX128: Dtype("complex128", 16, "dcomplex_val", "d"),
    DataType.DT_BFLOAT16: Dtype("bfloat16", 2, "half_val", "H", as_content=True),
    DataType.DT_QINT8: Dtype("", 1, "int_val", "b"),
    DataType.DT_QINT16: Dtype("", 2, "int_val", "h"),
    DataType.DT_QINT32: Dtype("", 4, "int_val", "i"),
    DataType.DT_QUINT8: Dtype("", 1, "int_val", "B"),
    DataType.DT_QUINT16: Dtype("", 2, "int_val", "H"),
}
NUMPY: Mapping[str, int] = {dtype.numpy: number for number, dtype in DTYPES.items() if dtype.numpy}
