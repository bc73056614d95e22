"""Arrays as the JSON of a line of fixed requests, and back, bit for bit."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from slipway_client.dtypes import NUMPY
from slipway_client.errors import UsageError

Array = npt.NDArray[Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)  # numpy knows the name bfloat16 by ml_dtypes' import
DTYPES = (*NUMPY, "string")
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class BadValue(Exception):
    """A key of a line does not hold what it must."""

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(f"key {key}: expected {expected}" if key else f"expected {expected}")


@dataclass(frozen=True)
class ShapeOnly:
    """An output of which dtype and shape are known and no values.

    dtype: numpy's name, or string. shape: -1 is a size that may be any.
    """

    dtype: str
    shape: tuple[int, ...]


def is_floating(kind: np.dtype[Any]) -> bool:
    """Whether its elements are real numbers of any width; numpy has no kind for bfloat16."""
    return kind.kind == "f" or kind == BFLOAT16


def dtype_of(array: Array) -> str:
    """numpy's name of an array's dtype; string for bytes, text and objects."""
    return "string" if array.dtype.kind in "OSU" else array.dtype.name


def to_tensor(value: object, key: str) -> Array:
    """{"dtype", "shape", "values"} -> array. Raises BadValue that names the key."""
    data = to_object(value, key)
    if set(data) != {"dtype", "shape", "values"}:
        raise BadValue(key, f"the keys dtype, shape and values, got {', '.join(sorted(data))}")
    dtype, shape = _form(data, key, 0)
    values = data["values"]
    if not isinstance(values, list):
        raise BadValue(f"{key}.values", f"a flat list, got {got(values)}")
    count = math.prod(shape)
    if len(values) != count:
        raise BadValue(f"{key}.values", f"{count} values for shape {list(shape)}, got {len(values)}")
    return to_array(values, dtype, f"{key}.values").reshape(shape)


def to_answer(value: object, key: str) -> Array | ShapeOnly:
    """As to_tensor; without the key "values" dtype and shape alone, where -1 is any size."""
    data = to_object(value, key)
    return ShapeOnly(*_form(data, key, -1)) if set(data) == {"dtype", "shape"} else to_tensor(value, key)


def _form(data: Mapping[str, Any], key: str, least: int) -> tuple[str, tuple[int, ...]]:
    dtype, shape = data["dtype"], data["shape"]
    if dtype not in DTYPES:
        raise BadValue(f"{key}.dtype", f"one of {', '.join(DTYPES)}, got {got(dtype)}")
    if not isinstance(shape, list) or not all(is_whole(size) and size >= least for size in shape):
        raise BadValue(f"{key}.shape", f"a list of whole numbers of {least} or more, got {got(shape)}")
    return dtype, tuple(shape)


def to_array(values: list[Any], dtype: str, key: str) -> Array:
    """A flat list -> a one-dimensional array. Raises BadValue that names the place."""
    if dtype == "string":
        return _strings([_text(item, f"{key}[{index}]") for index, item in enumerate(values)])
    kind = np.dtype(dtype)
    if is_floating(kind):
        return _floats(values, kind, key)
    if kind.kind == "c":
        return _complex(values, kind, key)
    if kind.kind == "b":
        for index, item in enumerate(values):
            if not isinstance(item, bool):
                raise BadValue(f"{key}[{index}]", f"true or false, got {got(item)}")
    else:
        limits = np.iinfo(kind)
        for index, item in enumerate(values):
            if not is_whole(item) or not limits.min <= item <= limits.max:
                raise BadValue(f"{key}[{index}]", f"a whole number of {dtype}, got {got(item)}")
    return np.array(values, dtype=kind)


def _floats(values: list[Any], kind: np.dtype[Any], key: str) -> Array:
    # Look at single values only when something is odd: an image has 784 of them, usually all good.
    if any(type(item) is not float for item in values):
        values = [_float(item, f"{key}[{index}]") for index, item in enumerate(values)]
    with np.errstate(over="ignore"):  # a value that is too large is named below instead of warned about
        out = np.array(values, dtype=np.float64).astype(kind)
    for index in np.flatnonzero(np.isinf(out)).tolist():
        if not math.isinf(values[index]):
            raise BadValue(f"{key}[{index}]", f"a {kind.name}, got {values[index]}")
    return out


def _complex(values: list[Any], kind: np.dtype[Any], key: str) -> Array:
    out = []
    for index, item in enumerate(values):
        if not isinstance(item, list) or len(item) != 2:
            raise BadValue(f"{key}[{index}]", f"[real, imaginary], got {got(item)}")
        out.append(complex(*(_float(part, f"{key}[{index}]") for part in item)))
    return np.array(out, dtype=kind)


def to_feature(value: object, key: str) -> Array:
    """A flat list -> strings, int64 where all numbers are whole, else float32."""
    if not isinstance(value, list):
        raise BadValue(key, f"a flat list of numbers or strings, got {got(value)}")
    if value and all(
        isinstance(item, dict) or (isinstance(item, str) and item not in NOT_FINITE) for item in value
    ):
        return to_array(value, "string", key)
    if value and all(is_whole(item) for item in value):
        return to_array(value, "int64", key)
    return to_array(value, "float32", key)


def to_object(value: object, key: str, *, empty: bool = False) -> Mapping[str, Any]:
    """A JSON object. empty: whether it may be. Raises BadValue for anything else."""
    if not isinstance(value, dict) or not (value or empty):
        raise BadValue(key, f"an object{'' if empty else ' that is not empty'}, got {got(value)}")
    return value


def _text(item: object, key: str) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except binascii.Error as error:
            raise BadValue(key, f"base64 ({error})") from error
    raise BadValue(key, f'text or {{"b64": "..."}}, got {got(item)}')


def _float(item: Any, key: str) -> float:
    if isinstance(item, str) and item in NOT_FINITE:
        return NOT_FINITE[item]
    if not is_number(item):
        raise BadValue(key, f'a number, "NaN", "Infinity" or "-Infinity", got {got(item)}')
    try:
        return float(item)
    except OverflowError as error:
        raise BadValue(key, "a number that fits in 64 bits") from error


def is_number(item: object) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def is_whole(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def got(value: object) -> str:
    """A value as a message about it shows it."""
    if value is None:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _strings(items: Sequence[bytes]) -> Array:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out


def from_answer(answer: Array | ShapeOnly) -> dict[str, Any]:
    """An array, or dtype and shape alone, as JSON. Raises UsageError for a dtype no request can have."""
    if isinstance(answer, ShapeOnly):
        return {"dtype": answer.dtype, "shape": list(answer.shape)}
    array = np.asarray(answer)
    dtype = dtype_of(array)
    if dtype not in DTYPES:
        raise UsageError(f"cannot write an array of {dtype}; expected one of {', '.join(DTYPES)}")
    return {"dtype": dtype, "shape": list(array.shape), "values": from_array(array)}


def from_array(array: Array) -> list[Any]:
    """The elements of an array as a flat list of JSON values."""
    return list(_each(np.asarray(array).ravel()))


def _each(flat: Array) -> Iterator[Any]:
    kind = flat.dtype.kind
    if kind in "OSU":
        for item in flat.tolist():
            yield _from_text(item.encode() if isinstance(item, str) else item)
    elif is_floating(flat.dtype):
        # The shortest decimal that reads back as the same float32 halves the file.
        for item in flat:
            number = float(str(item))
            yield number if math.isfinite(number) else _name(number)
    elif kind == "c":
        for item in flat.tolist():
            yield [part if math.isfinite(part) else _name(part) for part in (item.real, item.imag)]
    else:
        yield from flat.tolist()


def _name(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _from_text(item: bytes) -> str | dict[str, str]:
    try:
        text = item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}
    # A feature made of these words would be read back as floats.
    return {"b64": base64.b64encode(item).decode()} if text in NOT_FINITE else text
