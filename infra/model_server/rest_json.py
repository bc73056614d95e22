"""JSON of the REST API to tensors and back: row and column form, examples, base64.

Rules and texts follow TensorFlow Serving's util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Mapping
from typing import Any, Literal

from infra.model_server import rapid_json, tensors
from infra.model_server import runtime as rt
from infra.model_server.status import Code, StatusError, invalid
from infra.predict import stubs

stubs.load()
from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402  # needs the bare namespace
from tensorflow_serving.apis import input_pb2  # noqa: E402

Form = Literal["row", "column"]

_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**63), 2**63 - 1)
# dtype -> (TensorProto field, lowest and highest whole number; None: any number, a fraction too)
_NUMBERS: dict[int, tuple[str, tuple[int, int] | None]] = {
    types_pb2.DT_FLOAT: ("float_val", None),
    types_pb2.DT_DOUBLE: ("double_val", None),
    types_pb2.DT_INT32: ("int_val", _INT32),
    types_pb2.DT_INT16: ("int_val", _INT32),
    types_pb2.DT_INT8: ("int_val", _INT32),
    types_pb2.DT_UINT8: ("int_val", _INT32),
    types_pb2.DT_INT64: ("int64_val", _INT64),
    types_pb2.DT_UINT32: ("uint32_val", (0, 2**32 - 1)),
    types_pb2.DT_UINT64: ("uint64_val", (0, 2**64 - 1)),
}
_MOST_RANK = 254  # TensorShape::MaxDimensions
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")
_WHITESPACE = str.maketrans("", "", " \t\n\v\f\r")

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
    """The request's signature; "" when it names none."""
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
    given = input_pb2.Input()
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


def predictions(results: Mapping[str, rt.Tensor], form: Form) -> bytes:
    """The answer to a predict request. One output stands alone, several are an object by name.

    The layout is RapidJSON's PrettyWriter's: four spaces a level, and in the row form lists on one line.
    """
    named = len(results) > 1
    if form == "column":
        columns = {name: _nested(name, tensor, named + 1) for name, tensor in results.items()}
        value = columns if named else next(iter(columns.values()))
        return _text(f'{{\n    "outputs": {_pretty(value, 4)}\n}}')
    sizes: dict[str, int] = {}
    for name, tensor in results.items():
        shape = tensor.shape
        if not shape:
            raise invalid(f"Tensor name: {name} has no shape information ")
        expected = next(iter(sizes.values()), shape[0])
        if shape[0] != expected:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: {expected}"
            )
        sizes[name] = shape[0]
    rows = {name: _nested(name, tensor, named + 1) for name, tensor in results.items()}
    if not next(iter(sizes.values())):
        return b'{\n    "predictions": []\n}'
    if not named:
        lines = ", ".join(map(_flat, next(iter(rows.values()))))
        return _text(f'{{\n    "predictions": [{lines}\n    ]\n}}')
    blocks = []
    for row in range(next(iter(sizes.values()))):
        members = ",\n".join(f"            {_quoted(name)}: {_flat(rows[name][row])}" for name in rows)
        blocks.append(f"\n        {{\n{members}\n        }}")
    return _text(f'{{\n    "predictions": [{",".join(blocks)}\n    ]\n}}')


def classifications(result: Any) -> bytes:
    """The answer to a classify request: per example a list of [label, score]."""
    lines = [
        [[_Raw(_quoted(item.label)), _Raw(decimal(item.score, "f"))] for item in example.classes]
        for example in result.classifications
    ]
    return _text(f'{{\n    "results": [{", ".join(map(_flat, lines))}\n    ]\n}}')


def regressions(result: Any) -> bytes:
    """The answer to a regress request: one number per example."""
    values = ", ".join(decimal(item.value, "f") for item in result.regressions)
    return _text(f'{{\n    "results": [{values}]\n}}')


def error_body(message: str) -> bytes:
    return _text(f'{{\n    "error": {_quoted(message)}\n}}')


def decimal(value: float, code: Literal["f", "d"]) -> str:
    """A float as upstream writes it: six digits where they are enough, else all; code as in struct."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:g}"
    if code == "f":
        try:
            same = struct.unpack("<f", struct.pack("<f", float(text)))[0] == value
        except OverflowError:  # six digits of the largest floats round beyond them
            same = False
        if not same:
            text = f"{value:.9g}"
    elif float(text) != value:
        text = f"{value:.17g}"
    return text if "." in text or "e" in text else f"{text}.0"


class _Raw(str):
    """A JSON value already in its final form."""

    __slots__ = ()


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
                f"Expecting shape {tensors.shape_text(self.shape)} but got: {tensors.shape_text(shape)}"
            )

    def proto(self, shape: tuple[int, ...]) -> Any:
        proto = tensor_pb2.TensorProto(dtype=self.dtype)
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        if self.dtype == types_pb2.DT_STRING:
            proto.string_val.extend(self._values)
        elif self.dtype == types_pb2.DT_BOOL:
            proto.bool_val.extend(self._values)
        elif self.dtype in _NUMBERS:
            getattr(proto, _NUMBERS[self.dtype][0]).extend(self._values)
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
        """Whether all are numbers the field takes as they are: the common case, without a call each."""
        kinds = set(map(type, values))
        if self.dtype in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE):
            if kinds <= {float}:  # a sum that overflows is looked at one by one
                return math.isfinite(sum(values))
            return kinds <= {float, int} and all(abs(value) < 2**1000 for value in values)
        if self.dtype in _NUMBERS and kinds <= {int} and values:
            lowest, highest = _NUMBERS[self.dtype][1] or _INT32
            return bool(lowest <= min(values) and max(values) <= highest)
        return False

    def _leaf(self, value: Any) -> Any:
        dtype = self.dtype
        if dtype == types_pb2.DT_STRING:
            if isinstance(value, dict):
                return _unbase64(value)
            if isinstance(value, str):
                return rapid_json.encoded(value)
        elif isinstance(value, dict):
            pass
        elif dtype == types_pb2.DT_BOOL:
            if isinstance(value, bool):
                return value
        elif dtype in _NUMBERS:
            bounds = _NUMBERS[dtype][1]
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


def type_text(dtype: int) -> str:
    """float, int32, string: TensorFlow's own names of dtypes."""
    return tensors.dtype_name(dtype).removeprefix("DT_").lower()


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


def _nested(name: str, tensor: rt.Tensor, depth: int) -> Any:
    """A tensor's elements as nested lists of final JSON texts; depth: of the objects around them."""
    return _nest(_texts(name, tensor, depth + len(tensor.shape)), tensor.shape)


def _nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) < 2:
        return flat if shape else flat[0]
    size = len(flat) // shape[0] if shape[0] else 0
    return [_nest(flat[at * size : (at + 1) * size], shape[1:]) for at in range(shape[0])]


def _texts(name: str, tensor: rt.Tensor, depth: int) -> list[Any]:
    dtype = tensor.dtype
    if dtype in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE):
        code: Literal["f", "d"] = "f" if dtype == types_pb2.DT_FLOAT else "d"
        content = tensor.content()
        values = struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content)
        return [_Raw(decimal(value, code)) for value in values]
    if dtype == types_pb2.DT_BOOL:
        return [_Raw("true" if value else "false") for value in tensor.content()]
    if dtype == types_pb2.DT_STRING:
        if name.endswith("_bytes"):
            inner, outer = "\n" + " " * 4 * (depth + 1), "\n" + " " * 4 * depth
            encoded = (base64.b64encode(value).decode() for value in tensor.strings())
            return [_Raw(f'{{{inner}"b64": "{value}"{outer}}}') for value in encoded]
        return [_Raw(_quoted(value.decode("utf-8", "surrogateescape"))) for value in tensor.strings()]
    if dtype in _NUMBERS:
        return [_Raw(str(value)) for value in tensors.values(tensor)]
    raise invalid(f"Failed to write JSON value for tensor type: {type_text(dtype)}")


def _flat(value: Any) -> str:
    """On one line."""
    if isinstance(value, _Raw):
        return value
    return f"[{', '.join(map(_flat, value))}]"


def _pretty(value: Any, indent: int) -> str:
    """One element a line, indented below `indent` spaces."""
    if isinstance(value, _Raw):
        return value
    inner = " " * (indent + 4)
    if isinstance(value, dict):
        members = (f"{inner}{_quoted(name)}: {_pretty(item, indent + 4)}" for name, item in value.items())
        return "{\n" + ",\n".join(members) + f"\n{' ' * indent}}}"
    if not value:
        return "[]"
    return "[\n" + ",\n".join(f"{inner}{_pretty(item, indent + 4)}" for item in value) + f"\n{' ' * indent}]"


def _text(text: str) -> bytes:
    """Bytes that were never UTF-8 go out as they came, as upstream writes strings."""
    return text.encode("utf-8", "surrogateescape")


def _kind(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    return _KINDS.get(type(value), "Number")


_KINDS: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
