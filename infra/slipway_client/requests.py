"""Fixed requests: JSON lines of what to ask a server and what it must answer.

One line is one request:

    {"method": "predict", "signature": "predict_images",
     "inputs": {"images": {"dtype": "float32", "shape": [1, 784], "values": [0.0, ...]}},
     "expected": {"scores": {"dtype": "float32", "shape": [1, 10], "values": [0.1, ...]}},
     "labels": [7], "tolerance": 1e-05}
    {"method": "classify", "signature": "serving_default",
     "inputs": {"examples": [{"x": [0.0, ...]}]},
     "expected": {"classes": [["7", ...]], "scores": [[0.9, ...]]}, "labels": [7]}

`expected`, `labels` and `tolerance` are optional. A string is text or {"b64": "..."}; a float that
JSON has no number for is "NaN", "Infinity" or "-Infinity"; a complex number is [real, imaginary].
A feature whose values are all whole numbers is an int64 feature, so floats are written with a point.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slipway_client.dtypes import NUMPY
from slipway_client.errors import UsageError

Array = npt.NDArray[Any]
Method = Literal["predict", "classify"]

TOLERANCE = 1e-5  # how far a number may be from the recorded one, where the line does not say
DTYPES = (*NUMPY, "string")
_KEYS = ("method", "signature", "inputs", "expected", "labels", "tolerance")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_GZIP = b"\x1f\x8b"
_WHOLE_RANGE = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, eq=False)
class FixedRequest:
    """One request with its recorded answer.

    inputs: predict: one array per input key; strings as object arrays of bytes.
    examples: classify: one mapping per example, feature -> one-dimensional array (floating, int64 or
    object of bytes).
    expected: output key -> array, for classify "classes" (object of bytes) and "scores", both
    [examples, classes], or None if no answer was recorded. labels: the true class of each row.
    tolerance: absolute, for numbers; classes and strings must be equal.
    """

    method: Method
    signature: str
    inputs: Mapping[str, Array] = field(default_factory=dict)
    examples: tuple[Mapping[str, Array], ...] = ()
    expected: Mapping[str, Array] | None = None
    labels: tuple[int, ...] | None = None
    tolerance: float = TOLERANCE


class _Bad(Exception):
    """A key of a line does not hold what it must."""

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(f"key {key}: expected {expected}" if key else f"expected {expected}")


def read(path: Path) -> tuple[FixedRequest, ...]:
    """Read a file of fixed requests, gzipped or not; blank lines are passed over.

    Raises UsageError that names file, line, key and what was expected for every bad line (the first
    20 of them), and when the file cannot be read or holds no request.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == _GZIP else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the fixed requests: {error}", where=str(path), action="give a JSONL file"
        ) from error
    out: list[FixedRequest] = []
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            out.append(parse(line))
        except _Bad as error:
            bad.append((number, str(error)))
    action = "correct the file, or leave smoke.requests out to use the model's own"
    if len(bad) == 1:
        raise UsageError(f"bad request: {bad[0][1]}", where=f"{path}:{bad[0][0]}", action=action)
    if bad:
        tail = [f"{path}:{number}: {what}" for number, what in bad[:20]]
        raise UsageError(f"{len(bad)} bad requests", where=str(path), tail="\n".join(tail), action=action)
    if not out:
        raise UsageError("no request in it; expected at least one line of JSON", where=str(path))
    return tuple(out)


def write(path: Path, requests: Iterable[FixedRequest]) -> None:
    """Write fixed requests, one a line, so that `read` gives back the same bits."""
    text = "".join(f"{line}\n" for line in map(to_line, requests))
    path.write_text(text, encoding="utf-8")


def parse(line: str) -> FixedRequest:
    """One line -> one request."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Bad("", f"a JSON object ({error})") from error
    if not isinstance(data, dict):
        raise _Bad("", f"a JSON object, got {_got(data)}")
    unknown = sorted(set(data) - set(_KEYS))
    if unknown:
        raise _Bad(unknown[0], f"only the keys {', '.join(_KEYS)}")
    method = data.get("method")
    if method not in ("predict", "classify"):
        raise _Bad("method", f'"predict" or "classify", got {_got(method)}')
    signature = data.get("signature")
    if not isinstance(signature, str) or not signature:
        raise _Bad("signature", f"a signature's name, got {_got(signature)}")
    tolerance = data.get("tolerance", TOLERANCE)
    if not _is_number(tolerance) or not 0 <= tolerance < math.inf:
        raise _Bad("tolerance", f"a number of 0 or more, got {_got(tolerance)}")
    inputs = _object(data.get("inputs"), "inputs")
    expected = data.get("expected")
    if method == "predict":
        arrays = {name: _tensor(value, f"inputs.{name}") for name, value in inputs.items()}
        answers = None
        if expected is not None:
            named = _object(expected, "expected").items()
            answers = {name: _tensor(value, f"expected.{name}") for name, value in named}
        labels = _labels(data.get("labels"), None)
        return FixedRequest("predict", signature, arrays, (), answers, labels, float(tolerance))
    examples = _examples(inputs)
    return FixedRequest(
        "classify",
        signature,
        {},
        examples,
        None if expected is None else _classes(expected, len(examples)),
        _labels(data.get("labels"), len(examples)),
        float(tolerance),
    )


def to_line(request: FixedRequest) -> str:
    """One request -> its line, without the newline."""
    data: dict[str, Any] = {"method": request.method, "signature": request.signature}
    if request.method == "predict":
        data["inputs"] = {name: _from_array(array) for name, array in request.inputs.items()}
    else:
        data["inputs"] = {
            "examples": [
                {name: _values(np.asarray(array)) for name, array in example.items()}
                for example in request.examples
            ]
        }
    if request.expected is not None:
        if request.method == "predict":
            data["expected"] = {name: _from_array(array) for name, array in request.expected.items()}
        else:
            data["expected"] = {
                name: [_values(row) for row in np.asarray(array)] for name, array in request.expected.items()
            }
    if request.labels is not None:
        data["labels"] = [int(label) for label in request.labels]
    data["tolerance"] = request.tolerance
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def _tensor(value: object, key: str) -> Array:
    data = _object(value, key)
    if set(data) != {"dtype", "shape", "values"}:
        raise _Bad(key, f"the keys dtype, shape and values, got {', '.join(sorted(data))}")
    dtype, shape, values = data["dtype"], data["shape"], data["values"]
    if dtype not in DTYPES:
        raise _Bad(f"{key}.dtype", f"one of {', '.join(DTYPES)}, got {_got(dtype)}")
    if not isinstance(shape, list) or not all(_is_whole(size) and size >= 0 for size in shape):
        raise _Bad(f"{key}.shape", f"a list of whole numbers of 0 or more, got {_got(shape)}")
    if not isinstance(values, list):
        raise _Bad(f"{key}.values", f"a flat list, got {_got(values)}")
    count = math.prod(shape)
    if len(values) != count:
        raise _Bad(f"{key}.values", f"{count} values for shape {shape}, got {len(values)}")
    return _array(values, dtype, f"{key}.values").reshape(shape)


def _array(values: list[Any], dtype: str, key: str) -> Array:
    if dtype == "string":
        return _strings([_text(item, f"{key}[{index}]") for index, item in enumerate(values)])
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return _floats(values, kind, key)
    if kind.kind == "c":
        return _complex(values, kind, key)
    if kind.kind == "b":
        for index, item in enumerate(values):
            if not isinstance(item, bool):
                raise _Bad(f"{key}[{index}]", f"true or false, got {_got(item)}")
    else:
        limits = np.iinfo(kind)
        for index, item in enumerate(values):
            if not _is_whole(item) or not limits.min <= item <= limits.max:
                raise _Bad(f"{key}[{index}]", f"a whole number of {dtype}, got {_got(item)}")
    return np.array(values, dtype=kind)


def _floats(values: list[Any], kind: np.dtype[Any], key: str) -> Array:
    # Look at single values only when something is odd: an image has 784 of them, usually all good.
    if any(type(item) is not float for item in values):
        values = [_float(item, f"{key}[{index}]") for index, item in enumerate(values)]
    with np.errstate(over="ignore"):  # a value that is too large is named below instead of warned about
        out = np.array(values, dtype=np.float64).astype(kind)
    for index in np.flatnonzero(np.isinf(out)).tolist():
        if not math.isinf(values[index]):
            raise _Bad(f"{key}[{index}]", f"a {kind.name}, got {values[index]}")
    return out


def _complex(values: list[Any], kind: np.dtype[Any], key: str) -> Array:
    out = []
    for index, item in enumerate(values):
        if not isinstance(item, list) or len(item) != 2:
            raise _Bad(f"{key}[{index}]", f"[real, imaginary], got {_got(item)}")
        out.append(complex(*(_float(part, f"{key}[{index}]") for part in item)))
    return np.array(out, dtype=kind)


def _examples(inputs: Mapping[str, Any]) -> tuple[Mapping[str, Array], ...]:
    if set(inputs) != {"examples"}:
        raise _Bad("inputs", f"the key examples only (method classify), got {', '.join(sorted(inputs))}")
    listed = inputs["examples"]
    if not isinstance(listed, list) or not listed:
        raise _Bad("inputs.examples", f"a list of at least one example, got {_got(listed)}")
    out = []
    for index, example in enumerate(listed):
        key = f"inputs.examples[{index}]"
        out.append({name: _feature(v, f"{key}.{name}") for name, v in _object(example, key).items()})
    return tuple(out)


def _feature(value: object, key: str) -> Array:
    if not isinstance(value, list):
        raise _Bad(key, f"a flat list of numbers or strings, got {_got(value)}")
    if value and all(
        isinstance(item, dict) or (isinstance(item, str) and item not in _NOT_FINITE) for item in value
    ):
        return _array(value, "string", key)
    if value and all(_is_whole(item) for item in value):
        return _array(value, "int64", key)
    return _array(value, "float32", key)


def _classes(expected: object, count: int) -> Mapping[str, Array]:
    data = _object(expected, "expected")
    if not data or set(data) - {"classes", "scores"}:
        raise _Bad("expected", f"the keys classes and scores (method classify), got {', '.join(data)}")
    out: dict[str, Array] = {}
    for name, rows in data.items():
        key = f"expected.{name}"
        if not isinstance(rows, list) or len(rows) != count or not all(isinstance(r, list) for r in rows):
            raise _Bad(key, f"{count} lists, one for each example")
        if len({len(row) for row in rows}) != 1:
            raise _Bad(key, "lists of one length")
        dtype = "string" if name == "classes" else "float32"
        flat = _array([item for row in rows for item in row], dtype, key)
        out[name] = flat.reshape(count, len(rows[0]))
    return out


def _labels(value: object, count: int | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        _is_whole(item) and _WHOLE_RANGE[0] <= item <= _WHOLE_RANGE[1] for item in value
    ):
        raise _Bad("labels", f"a list of whole numbers, got {_got(value)}")
    if count is not None and len(value) != count:
        raise _Bad("labels", f"{count} labels, one for each example, got {len(value)}")
    return tuple(value)


def _object(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise _Bad(key, f"an object that is not empty, got {_got(value)}")
    return value


def _text(item: object, key: str) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except binascii.Error as error:
            raise _Bad(key, f"base64 ({error})") from error
    raise _Bad(key, f'text or {{"b64": "..."}}, got {_got(item)}')


def _float(item: Any, key: str) -> float:
    if isinstance(item, str) and item in _NOT_FINITE:
        return _NOT_FINITE[item]
    if not _is_number(item):
        raise _Bad(key, f'a number, "NaN", "Infinity" or "-Infinity", got {_got(item)}')
    try:
        return float(item)
    except OverflowError as error:
        raise _Bad(key, "a number that fits in 64 bits") from error


def _is_number(item: object) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _is_whole(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _got(value: object) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _strings(items: Sequence[bytes]) -> Array:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out


def _from_array(array: Array) -> dict[str, Any]:
    array = np.asarray(array)
    dtype = "string" if array.dtype.kind in "OSU" else array.dtype.name
    if dtype not in DTYPES:
        raise UsageError(f"cannot write an array of {dtype}; expected one of {', '.join(DTYPES)}")
    return {"dtype": dtype, "shape": list(array.shape), "values": _values(array)}


def _values(array: Array) -> list[Any]:
    return list(_each(np.asarray(array).ravel()))


def _each(flat: Array) -> Iterator[Any]:
    kind = flat.dtype.kind
    if kind in "OSU":
        for item in flat.tolist():
            yield _from_text(item.encode() if isinstance(item, str) else item)
    elif kind == "f":
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
    return {"b64": base64.b64encode(item).decode()} if text in _NOT_FINITE else text
