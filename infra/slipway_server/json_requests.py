"""A REST body's JSON to tensors and examples: row and column form, base64.

Rules and texts follow TensorFlow Serving's util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from slipway_client import messages
from slipway_client.dtypes import DTYPES, DataType

from slipway_server import rapid_json, session_tensors
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.session_tensors import type_text

Form = Literal["row", "column"]
DEFAULT_SIGNATURE = "serving_default"

_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**63), 2**63 - 1)
# What each field takes from JSON: lowest and highest whole number; None for any number, a fraction too.
_RANGES: dict[str, tuple[int, int] | None] = {
    "float_val": None,
    "double_val": None,
    "int_val": _INT32,
    "int64_val": _INT64,
    "uint32_val": (0, 2**32 - 1),
    "uint64_val": (0, 2**64 - 1),
}
# The numbers upstream converts: dtype -> (TensorProto's field, its range). The range is that of the field,
# not of the dtype.
NUMBERS = {
    int(dtype): (DTYPES[dtype].field, _RANGES[DTYPES[dtype].field])
    for dtype in (
        DataType.DT_FLOAT,
        DataType.DT_DOUBLE,
        DataType.DT_INT32,
        DataType.DT_INT16,
        DataType.DT_INT8,
        DataType.DT_UINT8,
        DataType.DT_INT64,
        DataType.DT_UINT32,
        DataType.DT_UINT64,
    )
}
_MOST_RANK = 254  # TensorShape::MaxDimensions
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")
_WHITESPACE = str.maketrans("", "", " \t\n\v\f\r")
_KINDS: dict[type, str] = {dict: "Object", list: "Array", str: "String"}

_shown, _quoted = rapid_json.shown, rapid_json.quoted


def parse(body: bytes) -> dict[str, Any]:
    """The request's JSON object. Raises StatusError INVALID_ARGUMENT."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    document = rapid_json.parse(body)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """The signature the request names, or "" if it does not name one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string "
            "value."
        )
    return rapid_json.encoded(name).decode("utf-8", "replace")  # a message's strings are UTF-8


def predict_inputs(document: dict[str, Any], infos: Mapping[str, Any]) -> tuple[dict[str, Any], Form]:
    """TensorProtos by input name, and the form the answer takes. infos: TensorInfo by input name."""
    if not infos:
        raise invalid(f"Failed to get input map for signature: {signature_name(document) or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise invalid(f"JSON Value: {_shown(document)} Expecting 'instances' to be an list/array")
        if not instances:
            raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
        return _from_rows(instances, infos), "row"
    if "inputs" in document:
        return _from_columns(document["inputs"], infos), "column"
    raise invalid("Missing 'inputs' or 'instances' key")


def example_input(document: dict[str, Any]) -> Any:
    """The Input message of a classify or regress request."""
    given = messages.Input()
    target = given.example_list
    if "context" in document:
        _fill_example(document["context"], given.example_list_with_context.context)
        target = given.example_list_with_context
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {_shown(document)} When method is classify, key 'examples' is expected and was not "
            "found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {_shown(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {_shown(document)} 'examples' value is an empty array")
    for example in examples:
        _fill_example(example, target.examples.add())
    return given


def _from_rows(instances: list[Any], infos: Mapping[str, Any]) -> dict[str, Any]:
    first = instances[0]
    if not isinstance(first, dict) and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    named = _is_object(first)
    only = next(iter(infos))
    builders = {name: _Builder(name, infos[name].dtype) for name in infos}
    if not named and builders[only].add_numbers(instances):
        return {only: builders[only].proto((len(instances),))}
    for at, item in enumerate(instances):
        if _is_object(item) is not named:
            expected = "Expecting object but got list" if named else "Expecting value/list but got object"
            raise invalid(f"{expected} at item {at} of input list")
        values = item if named else {only: item}
        for name, value in values.items():
            try:
                if name not in builders:
                    raise invalid(f"JSON object: does not have named input: {name}")
                builders[name].add(value)
            except StatusError as error:
                key = f" key: {name}" if named else ""
                raise invalid(
                    f"Failed to process element: {at}{key} of 'instances' list. Error: {error.code.name}: "
                    f"{error.message}"
                ) from error
        if named and set(values) != set(builders):
            raise invalid(
                f"Failed to process element: {at} of 'instances' list. JSON object: {_shown(item)} keys must "
                f"be equal to: {','.join(sorted(builders))}"
            )
    return {
        name: builder.proto((len(instances), *builder.shape))
        for name, builder in builders.items()
        if builder.shape is not None
    }


def _from_columns(given: Any, infos: Mapping[str, Any]) -> dict[str, Any]:
    if not _is_object(given):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        given = {next(iter(infos)): given}
    out = {}
    for name, info in infos.items():
        if name not in given:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        builder = _Builder(name, info.dtype)
        builder.add(given[name])
        assert builder.shape is not None
        out[name] = builder.proto(builder.shape)
    return out


class _Builder:
    """Collects the values of one input; every addition must have the shape of the first."""

    def __init__(self, name: str, dtype: int) -> None:
        self.name = name
        self.dtype = dtype
        self.shape: tuple[int, ...] | None = None
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        shape = _dense_shape(value)
        before = len(self._values)
        self._fill(value, shape)
        if self.shape is None:
            self.shape = shape
            return
        size = math.prod(self.shape)
        added = len(self._values) - before
        if added != size:
            raise invalid(f"Expecting tensor size: {size} but got: {added}")
        if shape != self.shape:
            raise invalid(
                f"Expecting shape {session_tensors.shape_text(self.shape)} but got: "
                f"{session_tensors.shape_text(shape)}"
            )

    def add_numbers(self, values: list[Any]) -> bool:
        """Add numbers that are all plain ones, each of shape (). Returns whether they were."""
        if not self._plain(values):
            return False
        self.shape = ()
        self._values += values
        return True

    def proto(self, shape: tuple[int, ...]) -> Any:
        proto = messages.TensorProto(dtype=self.dtype)
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        if self.dtype == DataType.DT_STRING:
            proto.string_val.extend(self._values)
        elif self.dtype == DataType.DT_BOOL:
            proto.bool_val.extend(self._values)
        elif self.dtype in NUMBERS:
            getattr(proto, NUMBERS[self.dtype][0]).extend(self._values)
        return proto

    def _fill(self, value: Any, shape: tuple[int, ...], level: int = 0) -> None:
        rank = len(shape)
        if not isinstance(value, list):
            if level != rank:
                raise invalid(
                    f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {rank}"
                )
            self._values.append(self._leaf(value))
            return
        if level >= rank:
            raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
                f"{shape[level]}"
            )
        if level == rank - 1 and self._plain(value):
            self._values += value
            return
        for item in value:
            self._fill(item, shape, level + 1)

    def _plain(self, values: list[Any]) -> bool:
        """Whether the field takes all these numbers as they are: the common case, without a call for each."""
        kinds = set(map(type, values))
        if self.dtype in (DataType.DT_FLOAT, DataType.DT_DOUBLE):
            if kinds <= {float}:  # a sum that overflows is looked at one by one
                return math.isfinite(sum(values))
            return kinds <= {float, int} and all(abs(value) < 2**1000 for value in values)
        if self.dtype in NUMBERS and kinds <= {int} and values:
            lowest, highest = NUMBERS[self.dtype][1] or _INT32
            return bool(lowest <= min(values) and max(values) <= highest)
        return False

    def _leaf(self, value: Any) -> Any:
        dtype = self.dtype
        if dtype == DataType.DT_STRING:
            if isinstance(value, dict):
                return _unbase64(value)
            if isinstance(value, str):
                return rapid_json.encoded(value)
        elif isinstance(value, dict):
            pass
        elif dtype == DataType.DT_BOOL:
            if isinstance(value, bool):
                return value
        elif dtype in NUMBERS:
            bounds = NUMBERS[dtype][1]
            if bounds is None and isinstance(value, float | int) and not isinstance(value, bool):
                return rapid_json.as_double(value)
            if type(value) is int and bounds is not None and bounds[0] <= value <= bounds[1]:
                return value
        else:
            raise StatusError(
                Code.UNIMPLEMENTED,
                f"Conversion of JSON Value: {_shown(value)} to type: {type_text(dtype)}",
            )
        raise invalid(
            f"JSON Value: {_shown(value)} Type: {_kind(value)} is not of expected type: {type_text(dtype)}"
        )


def _dense_shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > _MOST_RANK:
            raise invalid(f"a tensor of more than {_MOST_RANK} dimensions")
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    text = value.get("b64")
    return len(value) == 1 and isinstance(text, str)


def _unbase64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    # absl/strings/escaping.cc, Base64Unescape: blanks are passed over, padding is whole or left out
    match = _BASE64.fullmatch(value["b64"].translate(_WHITESPACE))
    if match is None or (match[2] and len(match[2]) != -len(match[1]) % 4):
        raise invalid("Unable to base64 decode")
    try:
        return base64.b64decode(match[1] + "=" * (-len(match[1]) % 4))
    except binascii.Error:
        raise invalid("Unable to base64 decode") from None


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_kind(value)}")
    features = example.features.feature
    for name, content in value.items():
        if rapid_json.encoded(name).decode("utf-8", "replace") != name:
            raise invalid(f"the name of a feature is not UTF-8: {_quoted(name)}")
        values = content if isinstance(content, list) else [content]
        feature = features[name]
        kind, converted = _feature_values(name, values)
        if kind:
            getattr(feature, kind).value.extend(converted)


def _feature_values(name: str, values: list[Any]) -> tuple[str, list[Any]]:
    kind = ""
    out: list[Any] = []
    item: Any
    for value in values:
        if isinstance(value, bool):
            found, item = "int64_list", int(value)
        elif isinstance(value, int) and _INT64[0] <= value < 2**64:
            if value > _INT64[1]:
                raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
            found, item = "int64_list", value
        elif isinstance(value, float | int):  # a whole number of more than 64 bits is a double
            found, item = "float_list", rapid_json.as_double(value)
        elif isinstance(value, str):
            found, item = "bytes_list", rapid_json.encoded(value)
        elif _is_base64(value):
            found, item = "bytes_list", _unbase64(value)
        else:
            raise invalid(f"Feature: {name} has element with unexpected JSON type: {_kind(value)}")
        if kind and kind != found:
            expected = kind.removesuffix("_list")
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
        kind = found
        out.append(item)
    return kind, out


def _kind(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    return _KINDS.get(type(value), "Number")
