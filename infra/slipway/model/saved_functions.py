"""The functions and ops of a SavedModel's graph, as saved_model_cli lists them, without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from slipway_client.dtypes import NAMES

_DTYPES = {"float": "float32", "double": "float64", "half": "float16"}


@dataclass(frozen=True)
class Argument:
    """One argument of a call. name: of a tensor, or of a keyword (then without value). dtype: Python's
    word for what is not a tensor."""

    value: str
    name: str = ""
    dtype: str = ""


@dataclass(frozen=True)
class FunctionDescription:
    """A tf.function of the model. calls: the arguments of each concrete function it was traced for."""

    name: str
    calls: tuple[tuple[Argument, ...], ...]


class _Written(str):
    """A value in TensorFlow's own notation; inside a list it is written the same."""

    __slots__ = ("tensor",)
    tensor: str

    def __repr__(self) -> str:
        return str(self)


def ops(graph: Any) -> tuple[str, ...]:
    """The ops a MetaGraphDef runs, those of the functions it calls included, in alphabetical order."""
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    seen: set[str] = set()
    todo = [graph.graph_def.node]
    while todo:
        for node in todo.pop():
            called = [one.name for attr in node.attr.values() for one in (attr.func, *attr.list.func)]
            for name in {node.op, *called} - seen:
                seen.add(name)
                todo += [functions[name]] if name in functions else []
    return tuple(sorted(seen - set(functions) - {""}))


def functions(graph: Any) -> tuple[FunctionDescription, ...] | None:
    """The functions of the saved object itself, by name; None if no object was saved (TensorFlow 1).

    Raises ValueError when the object graph is damaged.
    """
    if not graph.HasField("object_graph_def"):
        return None
    objects = graph.object_graph_def
    out = []
    for child in sorted(objects.nodes[0].children if objects.nodes else (), key=lambda one: one.local_name):
        if not 0 <= child.node_id < len(objects.nodes):
            raise ValueError(f"{child.local_name} is object {child.node_id} of {len(objects.nodes)}")
        node = objects.nodes[child.node_id]
        kind = node.WhichOneof("kind")
        if kind == "function":
            names: Iterable[str] = node.function.concrete_functions
        elif kind == "bare_concrete_function":
            names = [node.bare_concrete_function.concrete_function_name]
        else:
            continue
        if missing := [name for name in names if name not in objects.concrete_functions]:
            raise ValueError(f"{child.local_name} has no {missing[0]}")
        calls = (_arguments(objects.concrete_functions[name]) for name in sorted(names, key=_by_number))
        out.append(FunctionDescription(child.local_name, tuple(calls)))
    return tuple(out)


def as_lines(listed: Iterable[FunctionDescription]) -> list[str]:
    """What saved_model_cli prints below `Concrete Functions:`."""
    out = ["", "Concrete Functions:"]
    for index, function in enumerate(listed):
        out += [""] if index else []
        out.append(f"  Function Name: '{function.name}'")
        for number, call in enumerate(function.calls, 1):
            if not call:
                continue
            out += [f"    Option #{number}", "      Callable with:"]
            place = {True: 0, False: 0}
            for argument in call:
                keyword = not argument.value
                place[keyword] += 1
                out.append(f"        {'Named Argument' if keyword else 'Argument'} #{place[keyword]}")
                if keyword:
                    out.append(f"          {argument.name}")
                elif argument.dtype:
                    out += [f"          DType: {argument.dtype}", f"          Value: {argument.value}"]
                else:
                    out.append(f"          {argument.name}: {argument.value}")
    return out


def _by_number(name: str) -> tuple[str, int, str]:
    """__inference_f_9 before __inference_f_10: of two numbers the one with more digits is larger."""
    stem = name.rstrip("0123456789")
    number = name[len(stem) :].lstrip("0")
    return stem, len(number), number


def _arguments(function: Any) -> tuple[Argument, ...]:
    structure = _value(function.canonicalized_input_signature)
    if not isinstance(structure, tuple) or len(structure) != 2:
        return ()
    positional, keywords = structure
    return (*map(_argument, positional), *(Argument("", str(name)) for name in keywords))


def _argument(value: Any) -> Argument:
    if isinstance(value, _Written) and hasattr(value, "tensor"):
        return Argument(str(value), value.tensor)
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return Argument(f"[{', '.join(repr(item) for item in value)}]", dtype=kind)
    return Argument(str(value), dtype=str(value).partition("(")[0] if isinstance(value, _Written) else kind)


def _value(value: Any) -> Any:
    """A StructuredValue as Python prints it; tensors and types as TensorFlow does."""
    kind = value.WhichOneof("kind") or "none_value"
    held = getattr(value, kind)
    if kind in _PLAIN:
        return held
    decode = _DECODERS.get(kind)
    return None if decode is None else decode(held)


_PLAIN = {"float64_value", "int64_value", "string_value", "bool_value"}


def _list(held: Any) -> list[Any]:
    return [_value(item) for item in held.values]


def _dict(held: Any) -> dict[str, Any]:
    return {key: _value(item) for key, item in sorted(held.fields.items())}


def _named_tuple(held: Any) -> _Written:
    pairs = (f"{pair.key}={_value(pair.value)!r}" for pair in held.values)
    return _Written(f"{held.name}({', '.join(pairs)})")


def _tensor_shape(held: Any) -> _Written:
    return _Written(f"TensorShape({'None' if held.unknown_rank else list(_sizes(held))})")


def _tensor_spec(held: Any) -> _Written:
    shape = "<unknown>" if held.shape.unknown_rank else _sizes(held.shape)
    written = _Written(f"TensorSpec(shape={shape}, dtype={_dtype(held.dtype)}, name={held.name or None!r})")
    written.tensor = held.name or "None"
    return written


def _type_spec(held: Any) -> _Written:
    state = _value(held.type_state)
    parts = ", ".join(repr(part) for part in (state if isinstance(state, tuple) else (state,)))
    return _Written(f"{held.type_spec_class_name.rpartition('.')[2]}({parts})")


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "list_value": _list,
    "tuple_value": lambda held: tuple(_list(held)),
    "dict_value": _dict,
    "named_tuple_value": _named_tuple,
    "tensor_shape_value": _tensor_shape,
    "tensor_dtype_value": lambda held: _Written(_dtype(held)),
    "tensor_spec_value": _tensor_spec,
    "bounded_tensor_spec_value": _tensor_spec,
    "type_spec_value": _type_spec,
}


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _dtype(number: int) -> str:
    if number not in NAMES:
        raise ValueError(f"{number} is not a dtype")
    word = NAMES[number].removeprefix("DT_").lower()
    return f"tf.{_DTYPES.get(word, word)}"
