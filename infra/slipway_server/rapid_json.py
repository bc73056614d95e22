"""JSON as TensorFlow Serving's REST API takes and writes it, which uses the library RapidJSON.

Python's own parser does the reading. RapidJSON accepts more, by the flags of upstream's
util/json_tensor.cc, and so does this module: NaN and infinities (kParseNanAndInfFlag), and anything after the
first value (kParseStopWhenDoneFlag). The words of refusals are this server's own.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from slipway_server.codes import StatusError, invalid

LONGEST_SHOWN = 256  # characters of a value in an error text
TOO_BIG = "JSON Parse error: Number too big to be stored in double."

_BLANKS = " \t\r\n"
# A string, whole or cut off by the end (never looked at twice), or one of the words kParseNanAndInfFlag adds.
_STRING_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*+"?|-?(?:NaN|Infinity|Inf(?!i))', re.DOTALL)
_CONSTANT = re.compile(r"-?(?:NaN|Infinity|Inf(?!i))")
# An escape; the group: half of a surrogate pair without its other half.
_HIGH, _LOW = r"u[dD][89abAB][0-9a-fA-F]{2}", r"u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"\\(?:{_HIGH}\\{_LOW}|({_HIGH}|{_LOW})|.)", re.DOTALL)
_CONTROL = re.compile(r"\\(?:\\|u00[01][0-9a-f])")


class Constant(float):
    """NaN or an infinity that was written as such, not a number too big for a double."""


def parse(body: bytes) -> Any:
    """The first JSON value in `body`; what follows it is not looked at.

    Bytes that are not UTF-8 stay what they are: strings have them as surrogates, `encoded` gives them back.
    Raises StatusError INVALID_ARGUMENT with the offset in bytes at which reading ended.
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
        raise _error("not valid JSON", text, refused.pos, mark) from None
    except ValueError:  # a whole number of more digits than Python converts
        raise invalid(TOO_BIG) from None
    lone = _lone_surrogate(text, start, end)
    if lone is not None:
        raise _error("half of a surrogate pair", text, lone, mark)
    return value


def encoded(text: str) -> bytes:
    """A parsed string's bytes, as they came."""
    return text.encode("utf-8", "surrogateescape")


def quoted(text: str) -> str:
    """A string as RapidJSON writes it: the hexadecimal digits of escapes are capitals."""
    out = json.dumps(text, ensure_ascii=False)
    return _CONTROL.sub(_capitals, out) if "\\u00" in out else out


def shown(value: Any) -> str:
    """A value's JSON for an error text, cut after LONGEST_SHOWN characters. Only so much of it is written."""
    out = ""
    for token in _ENCODER.iterencode(value):
        out += token[: LONGEST_SHOWN + 1]
        if len(out) > LONGEST_SHOWN:
            return f"{out[:LONGEST_SHOWN]}..."
    return out


def as_double(value: float) -> float:
    """A number as a double. One beyond its range, which RapidJSON refuses while it reads, is refused here."""
    try:
        if type(value) is float and math.isinf(value):
            raise invalid(TOO_BIG)
        return float(value)
    except OverflowError:
        raise invalid(TOO_BIG) from None


def _lone_surrogate(text: str, start: int, end: int) -> int | None:
    """Offset of an escaped lone surrogate between start and end, or None."""
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


def _error(what: str, text: str, at: int, mark: int) -> StatusError:
    """mark: the length of the byte order mark that was taken off the text."""
    return invalid(f"JSON Parse error: {what} at offset {mark + len(encoded(text[:at]))}")


def _capitals(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\\\\" else match[0][:2] + match[0][2:].upper()


_CONSTANTS = {
    f"{sign}{word}": Constant(f"{sign}{word}") for word in ("NaN", "Inf", "Infinity") for sign in ("", "-")
}
_DECODER = json.JSONDecoder(parse_constant=_CONSTANTS.__getitem__)
_ENCODER = json.JSONEncoder(ensure_ascii=False)
