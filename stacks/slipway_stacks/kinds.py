"""What an input of a stack accepts, and how a whole set of them is read: every mistake is told at once.

In: values by key, texts or what JSON makes of them. Out: the fields of a dataclass. Needs no engine.
Never here: an input.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, get_args


class InputsError(ValueError):
    """The inputs are wrong; problems lists every mistake in them."""

    def __init__(self, problems: tuple[str, ...], where: str = "stack configuration") -> None:
        super().__init__(f"{where}:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Kind:
    """What an input accepts: in words, as a test of a value, and how a text becomes one."""

    expected: str
    holds: Callable[[Any], bool]
    convert: Callable[[str], Any] = str

    def parse(self, text: str) -> Any:
        """The value that a text stands for. Raises ValueError saying what was expected."""
        try:
            return self.check(self.convert(text))
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None

    def check(self, value: Any) -> Any:
        """A value, if it is right. Raises ValueError saying what was expected."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # the engine knows one kind of number
        if not self.holds(value):
            raise ValueError(f"expected {self.expected}")
        return value


def integer(low: int, high: int) -> Kind:
    """A whole number, the limits among them; as a text its digits."""

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    def convert(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise ValueError
        return int(text)

    return Kind(f"a whole number from {low} to {high}", holds, convert)


def matching(pattern: re.Pattern[str], expected: str) -> Kind:
    """A text that matches as a whole."""
    return Kind(expected, lambda value: is_text(value, pattern))


def is_text(value: Any, pattern: re.Pattern[str] | None = None) -> bool:
    """Whether it is a text, and matches as a whole."""
    return isinstance(value, str) and (pattern is None or pattern.fullmatch(value) is not None)


def one_of(kind: Any) -> Kind:
    """A text of a Literal."""
    return Kind(f"one of {', '.join(get_args(kind))}", lambda value: value in get_args(kind))


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def mapping(expected: str, key: re.Pattern[str], value: re.Pattern[str] | None = None) -> Kind:
    """Texts by name; as a text a JSON object."""

    def holds(given: Any) -> bool:
        return isinstance(given, Mapping) and all(
            is_text(name, key) and is_text(held, value) for name, held in given.items()
        )

    return Kind(expected, holds, json.loads)


def list_of(expected: str, item: Callable[[Any], bool]) -> Kind:
    """A list whose items are right; as a text a JSON array."""

    def holds(given: Any) -> bool:
        return isinstance(given, list | tuple) and all(item(each) for each in given)

    return Kind(expected, holds, json.loads)


boolean: Final = Kind("true or false", lambda value: isinstance(value, bool), _truth)


def about(key: str, kind: Kind, meaning: str, *, now: bool = False) -> dict[str, Any]:
    """What is known of an input beside its default. now: its value must be known before the program runs."""
    return {"key": key, "kind": kind, "meaning": meaning, "now": now}


@dataclass(frozen=True)
class Values:
    """Inputs by name: what was given and is right, and those for which something else was given."""

    given: dict[str, Any]
    refused: frozenset[str]


def taken(values: Mapping[str, Any], problems: list[str], before: str = "", *, of: type[Any]) -> Values:
    """Inputs from values by key, texts or what JSON makes of them. What is wrong is added to the problems.

    before: what goes before a key where people read of it. of: the dataclass whose fields they are.
    """
    known = {item.metadata["key"]: item for item in fields(of)}
    given: dict[str, Any] = {}
    for key, value in values.items():
        item = known.get(key)
        if item is None:
            problems.append(f"{before}{unknown(key, known)}")
            continue
        kind: Kind = item.metadata["kind"]
        try:
            given[item.name] = kind.parse(value) if isinstance(value, str) else kind.check(value)
        except ValueError as error:
            problems.append(f"{before}{key}: {error}, not {value!r}")
    refused = {item.name for key, item in known.items() if key in values and item.name not in given}
    return Values(given, frozenset(refused))


def unknown(name: str, known: Collection[str]) -> str:
    """The problem of a name that no input has."""
    near = difflib.get_close_matches(name, known, 1)
    return f"{name}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
