"""Fixed requests: JSON lines of what to ask a server and what it must answer.

One line is one request:

    {"method": "predict", "signature": "predict_images",
     "inputs": {"images": {"dtype": "float32", "shape": [1, 784], "values": [0.0, ...]}},
     "expected": {"scores": {"dtype": "float32", "shape": [1, 10], "values": [0.1, ...]}},
     "labels": [7], "tolerance": 1e-05}
    {"method": "classify", "signature": "serving_default",
     "inputs": {"examples": [{"x": [0.0, ...]}]},
     "expected": {"classes": [["7", ...]], "scores": [[0.9, ...]]}, "labels": [7]}
    {"method": "regress", "signature": "price",
     "inputs": {"examples": [{"x": [0.0, ...]}]}, "expected": {"outputs": [12.5]}}

`expected`, `labels` and `tolerance` are optional. An expected output without `values` must have the dtype
and shape only: what a model answers differently each time. A string is text or {"b64": "..."}; a float that
JSON has no number for is "NaN", "Infinity" or "-Infinity"; a complex number is [real, imaginary].
A feature whose values are all whole numbers is an int64 feature, so floats are written with a point.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from slipway_client.errors import UsageError
from slipway_client.json_values import (
    DTYPES,
    Array,
    BadValue,
    ShapeOnly,
    from_answer,
    from_array,
    got,
    is_number,
    is_whole,
    to_answer,
    to_array,
    to_feature,
    to_object,
    to_tensor,
)

__all__ = [
    "DTYPES",
    "METHODS",
    "TOLERANCE",
    "Array",
    "FixedRequest",
    "Method",
    "Recorded",
    "parse",
    "read",
    "to_line",
    "write",
]

Method = Literal["predict", "classify", "regress"]
METHODS: tuple[Method, ...] = get_args(Method)
Recorded = Mapping[str, Array | ShapeOnly]

TOLERANCE = 1e-5  # how far a number may be from the recorded one, where the line does not say
_KEYS = ("method", "signature", "inputs", "expected", "labels", "tolerance")
_GZIP = b"\x1f\x8b"
_WHOLE_RANGE = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, eq=False)
class FixedRequest:
    """One request with its recorded answer.

    inputs: predict: one array per input key; strings as object arrays of bytes. An input that the signature
    has a default for may be left out.
    examples: classify and regress: one mapping per example, feature -> one-dimensional array (floating, int64
    or object of bytes).
    expected: output key -> array; for classify "classes" (object of bytes) and "scores", both [examples,
    classes], for regress "outputs" [examples]. None if no answer was recorded.
    forms: the outputs of a recorded answer of which dtype and shape are known, and no values.
    labels: the true class of each row. tolerance: absolute, for numbers; classes and strings must be equal.
    """

    method: Method
    signature: str
    inputs: Mapping[str, Array] = field(default_factory=dict)
    examples: tuple[Mapping[str, Array], ...] = ()
    expected: Mapping[str, Array] | None = None
    labels: tuple[int, ...] | None = None
    tolerance: float = TOLERANCE
    forms: Mapping[str, ShapeOnly] = field(default_factory=dict)

    @property
    def recorded(self) -> Recorded | None:
        """All that an answer must be like; None if nothing was recorded."""
        return None if self.expected is None else {**self.expected, **self.forms}

    def answered(self, recorded: Recorded | None) -> FixedRequest:
        """The same request with this as its recorded answer."""
        if recorded is None:
            return replace(self, expected=None, forms={})
        forms = {key: one for key, one in recorded.items() if isinstance(one, ShapeOnly)}
        arrays = {key: one for key, one in recorded.items() if not isinstance(one, ShapeOnly)}
        return replace(self, expected=arrays, forms=forms)


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
        except BadValue as error:
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
        raise BadValue("", f"a JSON object ({error})") from error
    if not isinstance(data, dict):
        raise BadValue("", f"a JSON object, got {got(data)}")
    unknown = sorted(set(data) - set(_KEYS))
    if unknown:
        raise BadValue(unknown[0], f"only the keys {', '.join(_KEYS)}")
    method = data.get("method")
    if method not in METHODS:
        raise BadValue("method", f'"predict", "classify" or "regress", got {got(method)}')
    signature = data.get("signature")
    if not isinstance(signature, str) or not signature:
        raise BadValue("signature", f"a signature's name, got {got(signature)}")
    tolerance = data.get("tolerance", TOLERANCE)
    if not is_number(tolerance) or not 0 <= tolerance < math.inf:
        raise BadValue("tolerance", f"a number of 0 or more, got {got(tolerance)}")
    inputs = to_object(data.get("inputs"), "inputs", empty=method == "predict")
    arrays: dict[str, Array] = {}
    examples: tuple[Mapping[str, Array], ...] = ()
    if method == "predict":
        arrays = {name: to_tensor(value, f"inputs.{name}") for name, value in inputs.items()}
    else:
        examples = _examples(inputs, method)
    labels = _labels(data.get("labels"), len(examples) if examples else None)
    asked = FixedRequest(method, signature, arrays, examples, None, labels, float(tolerance))
    expected = data.get("expected")
    return asked if expected is None else asked.answered(_ANSWERS[method](expected, len(examples)))


def to_line(request: FixedRequest) -> str:
    """One request -> its line, without the newline."""
    data: dict[str, Any] = {"method": request.method, "signature": request.signature}
    if request.method == "predict":
        data["inputs"] = {name: from_answer(array) for name, array in request.inputs.items()}
    else:
        data["inputs"] = {
            "examples": [
                {name: from_array(array) for name, array in example.items()} for example in request.examples
            ]
        }
    if (recorded := request.recorded) is not None:
        data["expected"] = {name: _written(request.method, answer) for name, answer in recorded.items()}
    if request.labels is not None:
        data["labels"] = [int(label) for label in request.labels]
    data["tolerance"] = request.tolerance
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def _written(method: Method, answer: Array | ShapeOnly) -> Any:
    if method == "predict" or isinstance(answer, ShapeOnly):
        return from_answer(answer)
    return from_array(answer) if method == "regress" else [from_array(row) for row in np.asarray(answer)]


def _examples(inputs: Mapping[str, Any], method: Method) -> tuple[Mapping[str, Array], ...]:
    if set(inputs) != {"examples"}:
        raise BadValue("inputs", f"the key examples only (method {method}), got {', '.join(sorted(inputs))}")
    listed = inputs["examples"]
    if not isinstance(listed, list) or not listed:
        raise BadValue("inputs.examples", f"a list of at least one example, got {got(listed)}")
    out = []
    for index, example in enumerate(listed):
        key = f"inputs.examples[{index}]"
        features = to_object(example, key)
        out.append({name: to_feature(value, f"{key}.{name}") for name, value in features.items()})
    return tuple(out)


def _outputs(expected: object, _count: int) -> Recorded:
    named = to_object(expected, "expected").items()
    return {name: to_answer(value, f"expected.{name}") for name, value in named}


def _classes(expected: object, count: int) -> Recorded:
    data = to_object(expected, "expected")
    if set(data) - {"classes", "scores"}:
        raise BadValue("expected", f"the keys classes and scores (method classify), got {', '.join(data)}")
    out: dict[str, Array | ShapeOnly] = {}
    for name, rows in data.items():
        key = f"expected.{name}"
        if isinstance(rows, dict):
            out[name] = to_answer(rows, key)
            continue
        if not isinstance(rows, list) or len(rows) != count or not all(isinstance(r, list) for r in rows):
            raise BadValue(key, f"{count} lists, one for each example")
        if len({len(row) for row in rows}) != 1:
            raise BadValue(key, "lists of one length")
        dtype = "string" if name == "classes" else "float32"
        flat = to_array([item for row in rows for item in row], dtype, key)
        out[name] = flat.reshape(count, len(rows[0]))
    return out


def _values(expected: object, count: int) -> Recorded:
    data = to_object(expected, "expected")
    if set(data) != {"outputs"}:
        raise BadValue("expected", f"the key outputs (method regress), got {', '.join(data)}")
    values = data["outputs"]
    if isinstance(values, dict):
        return {"outputs": to_answer(values, "expected.outputs")}
    if not isinstance(values, list) or len(values) != count:
        raise BadValue("expected.outputs", f"{count} numbers, one for each example")
    return {"outputs": to_array(values, "float32", "expected.outputs")}


_ANSWERS: Mapping[Method, Callable[[object, int], Recorded]] = {
    "predict": _outputs,
    "classify": _classes,
    "regress": _values,
}


def _labels(value: object, count: int | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        is_whole(item) and _WHOLE_RANGE[0] <= item <= _WHOLE_RANGE[1] for item in value
    ):
        raise BadValue("labels", f"a list of whole numbers, got {got(value)}")
    if count is not None and len(value) != count:
        raise BadValue("labels", f"{count} labels, one for each example, got {len(value)}")
    return tuple(value)
