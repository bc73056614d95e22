"""JSON as RapidJSON reads and writes it, the library of TensorFlow Serving's REST API.

Python's own parser does the reading; what it refuses is looked at again here, for the few things
RapidJSON takes all the same and for the words and the place of the error. The flags and the limit are
those of upstream's util/json_tensor.cc: kParseIterativeFlag, kParseNanAndInfFlag, kParseStopWhenDoneFlag.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from infra.model_server.status import StatusError, invalid

LONGEST_SHOWN = 256  # bytes: kMaxJsonDebugStringBytes
TOO_BIG = "JSON Parse error: Number too big to be stored in double."

_LONE = "The surrogate pair in string is invalid."
_BAD_ESCAPE = "Invalid escape character in string."
_UNCLOSED = "Missing a closing quotation mark in string."
_NO_NAME = "Missing a name for object member."
# Python's words -> RapidJSON's, where both point at the same character
_PLAIN = {
    "Expecting property name enclosed in double quotes": _NO_NAME,
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
}
_TRAILING_COMMA = {
    "Illegal trailing comma before end of object": _NO_NAME,
    "Illegal trailing comma before end of array": "Invalid value.",
}
_BLANKS = " \t\r\n"
# A string, whole or cut off by the end (never looked at twice), or one of the words kParseNanAndInfFlag adds.
_STRING_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*+"?|-?(?:NaN|Infinity|Inf(?!i))', re.DOTALL)
_CONSTANT = re.compile(r"-?(?:NaN|Infinity|Inf(?!i))")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
# An escape; the group: half of a surrogate pair without its other half.
_HIGH, _LOW = r"u[dD][89abAB][0-9a-fA-F]{2}", r"u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"\\(?:{_HIGH}\\{_LOW}|({_HIGH}|{_LOW})|.)", re.DOTALL)
_WHOLE_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
_WHOLE_NUMBER = re.compile(r"(?<![0-9.eE+-])-?[0-9]+\Z")
_NUMBER = re.compile(r"(?<![0-9.eE+-])-?[0-9]+(?:\.[0-9]+)?\Z")
_CONTROL = re.compile(r"\\(?:\\|u00[01][0-9a-f])")


class Constant(float):
    """NaN or an infinity that was written as such, not a number too big for a double."""


def parse(body: bytes) -> Any:
    """The first JSON value in `body`; what follows it is not looked at.

    Bytes that are no UTF-8 stay what they are: strings have them as surrogates, `encoded` gives them back.
    Raises StatusError INVALID_ARGUMENT with RapidJSON's words and the offset in bytes.
    """
    mark = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    text = body[mark:].decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as refused:
            if not _CONSTANT.match(text, refused.pos):
                raise
            value, end = _with_constants(text, start)
    except RecursionError:
        raise invalid("JSON Parse error: nested too deeply") from None
    except json.JSONDecodeError as refused:
        words, at = _placed(text, start, refused)
        lone = _lone_surrogate(text, start, at)
        if lone is not None:
            words, at = _LONE, lone
        raise _error(words, text, at, mark) from None
    except ValueError:  # a whole number of more digits than Python converts
        raise invalid(TOO_BIG) from None
    lone = _lone_surrogate(text, start, end)
    if lone is not None:
        raise _error(_LONE, text, lone, mark)
    return value


def encoded(text: str) -> bytes:
    """A parsed string's bytes, as they came."""
    return text.encode("utf-8", "surrogateescape")


def quoted(text: str) -> str:
    """A string as RapidJSON writes it: the hexadecimal digits of escapes are capitals."""
    out = json.dumps(text, ensure_ascii=False)
    return _CONTROL.sub(_capitals, out) if "\\u00" in out else out


def shown(value: Any) -> str:
    """A value in an error text (json_tensor.cc:229, JsonValueToDebugString).

    Objects have a member a line, arrays one line; it ends with the token that reaches LONGEST_SHOWN bytes.
    Unlike there a long string is cut too: an error is no place for megabytes.
    """
    out, size = [], 0
    for token in _tokens(value, "", 0):
        if token is None:
            break
        out.append(token[:LONGEST_SHOWN])
        size += len(encoded(out[-1]))
        if size >= LONGEST_SHOWN:
            break
    return "".join(out)


def _lone_surrogate(text: str, start: int, end: int) -> int | None:
    """Where between two places of sound JSON half a surrogate pair is escaped, if anywhere."""
    if text.find("\\u", start, end) < 0:
        return None
    return next((found.start() for found in _ESCAPE.finditer(text, start, end) if found[1]), None)


def _with_constants(text: str, start: int) -> tuple[Any, int]:
    """Parse with -NaN, Inf and -Inf, which Python does not know, made into NaN of the same length."""
    found: list[Constant] = []

    def named(match: re.Match[str]) -> str:
        word = match[0]
        if word.startswith('"'):
            return word
        found.append(_CONSTANTS[word])
        return "NaN".ljust(len(word))

    changed = _STRING_OR_CONSTANT.sub(named, text)
    values = iter(found)
    decoder = json.JSONDecoder(parse_constant=lambda _: next(values))
    return decoder.raw_decode(changed, start)


def _placed(text: str, start: int, error: json.JSONDecodeError) -> tuple[str, int]:
    """RapidJSON's words for what Python's parser refused, and where in the text."""
    at = error.pos
    if error.msg in _PLAIN:
        return _PLAIN[error.msg], at
    if error.msg in _TRAILING_COMMA:
        return _TRAILING_COMMA[error.msg], len(text) - len(text[at + 1 :].lstrip(_BLANKS))
    if error.msg == "Expecting ',' delimiter":
        return _after_value(text, at)
    if error.msg == "Expecting value":
        if at == start and text[at : at + 1] in {"", "\0", "}", "]", ",", ":"}:
            return "The document is empty.", at
        return "Invalid value.", _past_word(text, at)
    return _in_string(text, error)


def _in_string(text: str, error: json.JSONDecodeError) -> tuple[str, int]:
    at = error.pos
    unclosed = error.msg == "Unterminated string starting at"
    if unclosed and (len(text) - len(text.rstrip("\\"))) % 2:
        return _BAD_ESCAPE, len(text) - 1
    if error.msg == "Invalid \\uXXXX escape":
        at = text.rindex("\\u", 0, at + 2)
        unclosed = _WHOLE_ESCAPE.fullmatch(text, at) is not None  # it is sound, but nothing comes after it
        if not unclosed:
            return "Incorrect hex digit after \\u escape in string.", at
    if unclosed:
        return _UNCLOSED, len(text)
    return _UNCLOSED if text[
        at : at + 1
    ] == "\0" else _BAD_ESCAPE, at  # a control character, a strange escape


def _after_value(text: str, at: int) -> tuple[str, int]:
    """A value is followed by what can follow none: the rest of a number cut short, or no comma."""
    following, before = text[at : at + 1], text[max(0, at - 400) : at]
    if following == "." and _WHOLE_NUMBER.search(before):
        return "Miss fraction part in number.", at + 1
    if following in {"e", "E"} and _NUMBER.search(before):
        return "Miss exponent in number.", at + 1 + (text[at + 1 : at + 2] in {"+", "-"})
    open_brackets: list[str] = []
    for match in _STRING_OR_BRACKET.finditer(text, 0, at):
        if match[0] in {"[", "{"}:
            open_brackets.append(match[0])
        elif match[0] in {"]", "}"}:
            open_brackets.pop()
    if open_brackets[-1] == "[":
        return "Missing a comma or ']' after an array element.", at
    return "Missing a comma or '}' after an object member.", at


def _past_word(text: str, at: int) -> int:
    """RapidJSON points behind the part of a word it could read: nul -> 3."""
    at += text.startswith("-", at)
    for word in ("null", "true", "false", "NaN", "Infinity"):
        if text.startswith(word[0], at):
            if text[at - 1 : at] == "-" and word[0].islower():
                return at
            length = next(n for n in range(1, len(word) + 1) if not text.startswith(word[: n + 1], at))
            return at + length
    return at


def _error(words: str, text: str, at: int, mark: int) -> StatusError:
    return invalid(f"JSON Parse error: {words} at offset: {mark + len(encoded(text[:at]))}")


def _tokens(value: Any, prefix: str, depth: int) -> Iterator[str | None]:
    """The writer's calls, each with what it puts before it; None where it gives up: at a NaN or an infinity.

    Each level is at least a byte, so whoever takes LONGEST_SHOWN bytes goes no deeper than that.
    """
    if isinstance(value, dict):
        yield f"{prefix}{{"
        inner = "\n" + " " * 4 * (depth + 1)
        for at, (name, item) in enumerate(value.items()):
            yield f"{',' if at else ''}{inner}{quoted(name)}"
            yield from _tokens(item, ": ", depth + 1)
        yield "\n" + " " * 4 * depth + "}" if value else "}"
    elif isinstance(value, list):
        yield f"{prefix}["
        for at, item in enumerate(value):
            yield from _tokens(item, ", " if at else "", depth + 1)
        yield "]"
    elif isinstance(value, float) or (type(value) is int and not -(2**63) <= value < 2**64):
        yield prefix
        number = as_double(value)
        yield _double(number) if math.isfinite(number) else None
    else:
        yield prefix + (quoted(value) if isinstance(value, str) else json.dumps(value))


def as_double(value: float) -> float:
    """A number as a double. One beyond its range, which RapidJSON refuses while it reads, is refused here."""
    try:
        if type(value) is float and math.isinf(value):
            raise invalid(TOO_BIG)
        return float(value)
    except OverflowError:
        raise invalid(TOO_BIG) from None


def _double(value: float) -> str:
    """A double as RapidJSON's dtoa writes it: no plus in the exponent, whole up to 21 digits."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    minus = "-" if sign else ""
    assert isinstance(exponent, int)
    if text == "0":
        return f"{minus}0.0"
    point = len(text) + exponent  # the value is 0.text times 10 to this power
    if exponent >= 0 and point <= 21:
        return f"{minus}{text}{'0' * exponent}.0"
    if 0 < point <= 21:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{minus}{text[0]}{fraction}e{point - 1}"


def _capitals(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\\\\" else match[0][:2] + match[0][2:].upper()


_CONSTANTS = {
    f"{sign}{word}": Constant(f"{sign}{word}") for word in ("NaN", "Inf", "Infinity") for sign in ("", "-")
}
_DECODER = json.JSONDecoder(parse_constant=_CONSTANTS.__getitem__)
