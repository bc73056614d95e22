"""Tensors and results to the JSON of REST answers, laid out and written as RapidJSON's writers do it.

Rules and texts follow TensorFlow Serving's util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipway_client.dtypes import DataType

from slipway_server import runtime as rt
from slipway_server import session_tensors
from slipway_server.codes import invalid
from slipway_server.json_requests import NUMBERS, Form
from slipway_server.rapid_json import quoted
from slipway_server.session_tensors import Hold, type_text

_COPIES = (
    12  # of a tensor's bytes in its text: a number takes up to three times its own, and twice at the end
)


def predictions(results: Mapping[str, rt.Tensor], form: Form, hold: Hold) -> bytes:
    """The answer to a predict request. One output stands alone, several are an object by name.

    The layout is RapidJSON's PrettyWriter's: four spaces a level, and in the row form lists on one line.
    hold: told how many bytes it takes before it is written.
    """
    for tensor in results.values():
        hold(_COPIES * tensor.size if tensor.size > session_tensors.SMALL else 0)
    pieces = _columns(results) if form == "column" else _rows(results)
    return b"".join(map(_text, pieces))


def _columns(results: Mapping[str, rt.Tensor]) -> Iterator[str]:
    if len(results) == 1:
        ((name, tensor),) = results.items()
        yield '{\n    "outputs": '
        yield from _Elements(name, tensor, 1).pieces(_pretty(4))
        yield "\n}"
        return
    yield '{\n    "outputs": {'
    for at, (name, tensor) in enumerate(results.items()):
        yield f"{',' if at else ''}\n        {quoted(name)}: "
        yield from _Elements(name, tensor, 2).pieces(_pretty(8))
    yield "\n    }\n}"


def _rows(results: Mapping[str, rt.Tensor]) -> Iterator[str]:
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
    count = next(iter(sizes.values()))
    if not count:
        yield '{\n    "predictions": []\n}'
        return
    named = len(results) > 1
    elements = {name: _Elements(name, tensor, 1 + named) for name, tensor in results.items()}
    yield '{\n    "predictions": ['
    if not named:
        yield from next(iter(elements.values())).inner_pieces(_FLAT)
    for row in range(count if named else 0):
        yield f"{',' if row else ''}\n        {{\n"
        for at, (name, these) in enumerate(elements.items()):
            yield f"{',' + chr(10) if at else ''}            {quoted(name)}: "
            yield from these.pieces(_FLAT, row)
        yield "\n        }"
    yield "\n    ]\n}"


def classifications(result: Any) -> bytes:
    """The answer to a classify request: per example a list of [label, score]."""
    lines = (
        "["
        + ", ".join(f"[{quoted(item.label)}, {decimal(item.score, 'f')}]" for item in example.classes)
        + "]"
        for example in result.classifications
    )
    return _text(f'{{\n    "results": [{", ".join(lines)}\n    ]\n}}')


def regressions(result: Any) -> bytes:
    """The answer to a regress request: one number per example."""
    values = ", ".join(decimal(item.value, "f") for item in result.regressions)
    return _text(f'{{\n    "results": [{values}]\n}}')


def error_body(message: str) -> bytes:
    return _text(f'{{\n    "error": {quoted(message)}\n}}')


def decimal(value: float, code: Literal["f", "d"]) -> str:
    """A float as upstream writes it, with six digits if they are enough. code: the struct module's."""
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


@dataclass(frozen=True)
class _Layout:
    """What stands around and between the elements of a list."""

    begin: str
    between: str
    end: str
    inner: Callable[[], _Layout]  # of the lists in it


_FLAT: _Layout = _Layout("[", ", ", "]", lambda: _FLAT)


def _pretty(indent: int) -> _Layout:
    """One element a line, indented below `indent` spaces."""
    blank = " " * (indent + 4)
    return _Layout(f"[\n{blank}", f",\n{blank}", f"\n{' ' * indent}]", lambda: _pretty(indent + 4))


class _Elements:
    """A tensor's elements as JSON, some at a time: all at once would take many times their text's memory."""

    def __init__(self, name: str, tensor: rt.Tensor, depth: int) -> None:
        """depth: of the objects around the tensor."""
        self._shape = tensor.shape
        self._texts = _texts(name, tensor, depth + len(self._shape))

    def pieces(self, layout: _Layout, row: int | None = None) -> Iterator[str]:
        """The whole tensor, or one of its rows."""
        if row is None:
            return self._list(layout, self._shape, 0)
        inner = self._shape[1:]
        return self._list(layout, inner, row * math.prod(inner))

    def inner_pieces(self, layout: _Layout) -> Iterator[str]:
        """The whole tensor without the brackets around it."""
        return self._items(layout, self._shape, 0)

    def _list(self, layout: _Layout, shape: tuple[int, ...], start: int) -> Iterator[str]:
        if not shape:
            yield self._texts(start, start + 1)[0]
        elif not shape[0]:
            yield "[]"
        else:
            yield layout.begin
            yield from self._items(layout, shape, start)
            yield layout.end

    def _items(self, layout: _Layout, shape: tuple[int, ...], start: int) -> Iterator[str]:
        """The elements of a list that is not empty, as many lists of them at a time as make a piece."""
        inner = shape[1:]
        size = math.prod(inner)
        if size > session_tensors.SLICE:
            for at in range(shape[0]):
                yield layout.between if at else ""
                yield from self._list(layout.inner(), inner, start + at * size)
            return
        step = max(1, session_tensors.SLICE // max(size, 1))
        for at in range(0, shape[0], step):
            count = min(step, shape[0] - at)
            texts = self._texts(start + at * size, start + (at + count) * size)
            yield layout.between if at else ""
            yield layout.between.join(_joined(layout.inner(), texts, inner, count))


def _joined(layout: _Layout, texts: Sequence[str], shape: tuple[int, ...], count: int) -> Sequence[str]:
    """`count` values of this shape, each as one text."""
    if not shape:
        return texts
    if not shape[0]:
        return ["[]"] * count
    items = _joined(layout.inner(), texts, shape[1:], count * shape[0])
    return [
        layout.begin + layout.between.join(items[at : at + shape[0]]) + layout.end
        for at in range(0, len(items), shape[0])
    ]


def _texts(name: str, tensor: rt.Tensor, depth: int) -> Callable[[int, int], Sequence[str]]:
    """What gives the JSON of the elements from one place to before another."""
    dtype = tensor.dtype
    if dtype in (DataType.DT_FLOAT, DataType.DT_DOUBLE):
        code: Literal["f", "d"] = "f" if dtype == DataType.DT_FLOAT else "d"
        numbers = session_tensors.numbers_of(tensor)
        return lambda start, end: [decimal(value, code) for value in numbers[start:end]]
    if dtype == DataType.DT_BOOL:
        content = tensor.content()
        return lambda start, end: ["true" if value else "false" for value in content[start:end]]
    if dtype == DataType.DT_STRING:
        if name.endswith("_bytes"):
            inner, outer = "\n" + " " * 4 * (depth + 1), "\n" + " " * 4 * depth
            return lambda start, end: [
                f'{{{inner}"b64": "{base64.b64encode(value).decode()}"{outer}}}'
                for value in tensor.strings(start, end)
            ]
        return lambda start, end: [
            quoted(value.decode("utf-8", "surrogateescape")) for value in tensor.strings(start, end)
        ]
    if dtype in NUMBERS:
        whole = session_tensors.numbers_of(tensor)
        return lambda start, end: [str(value) for value in whole[start:end]]
    raise invalid(f"Failed to write JSON value for tensor type: {type_text(dtype)}")


def _text(text: str) -> bytes:
    """Encode an answer. Bytes that are not UTF-8 go out as they came; upstream writes strings so."""
    return text.encode("utf-8", "surrogateescape")
