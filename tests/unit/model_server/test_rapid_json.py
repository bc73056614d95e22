"""JSON read and shown as RapidJSON does it: each expectation came out of RapidJSON 1.1.0 itself, compiled
with the flags of TensorFlow Serving's util/json_tensor.cc (workspace.bzl:54 names the version)."""

from __future__ import annotations

import math

import pytest

from infra.model_server import rapid_json
from infra.model_server.status import Code, StatusError

REFUSED = [
    (b"   ", "The document is empty. at offset: 3"),
    (b"}", "The document is empty. at offset: 0"),
    (b"x", "Invalid value. at offset: 0"),
    (b'{"a": ', "Invalid value. at offset: 6"),
    (b'{"a": }', "Invalid value. at offset: 6"),
    (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
    (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
    (b"{a: 1}", "Missing a name for object member. at offset: 1"),
    (b"{'a': 1}", "Missing a name for object member. at offset: 1"),
    (b"[1, ]", "Invalid value. at offset: 4"),
    (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
    (b'{"a": [1}', "Missing a comma or ']' after an array element. at offset: 8"),
    (b'{"a": ["]", 1]', "Missing a comma or '}' after an object member. at offset: 14"),
    (b'{"a": 1 "b": 2}', "Missing a comma or '}' after an object member. at offset: 8"),
    (b'{"a": 01}', "Missing a comma or '}' after an object member. at offset: 7"),
    (b'{"a": 1.}', "Miss fraction part in number. at offset: 8"),
    (b'{"a": 1.5.}', "Missing a comma or '}' after an object member. at offset: 9"),
    (b'{"a": 1e+}', "Miss exponent in number. at offset: 9"),
    (b'{"a": -}', "Invalid value. at offset: 7"),
    (b'{"a": +1}', "Invalid value. at offset: 6"),
    (b'{"a": nul}', "Invalid value. at offset: 9"),
    (b'{"a": None}', "Invalid value. at offset: 7"),
    (b'{"a": True}', "Invalid value. at offset: 6"),
    (b'{"a": Infini}', "Invalid value. at offset: 12"),
    (b'{"a": "x', "Missing a closing quotation mark in string. at offset: 8"),
    (b'{"a": "\x00"}', "Missing a closing quotation mark in string. at offset: 7"),
    (b'{"a": "\\u00e9', "Missing a closing quotation mark in string. at offset: 13"),
    (b'{"a": "\\x"}', "Invalid escape character in string. at offset: 7"),
    (b'{"a": "\n"}', "Invalid escape character in string. at offset: 7"),
    (b'{"a": "\\', "Invalid escape character in string. at offset: 7"),
    (b'{"a": "\\u12g4"}', "Incorrect hex digit after \\u escape in string. at offset: 7"),
    (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid. at offset: 7"),
    (b'{"a": Inf, "b": [-NaN 1]}', "Missing a comma or ']' after an array element. at offset: 22"),
    # offsets are bytes, the mark at the beginning among them
    ('\ufeff{"\u00fc": 1'.encode(), "Missing a comma or '}' after an object member. at offset: 11"),
]


@pytest.mark.parametrize(("raw", "words"), REFUSED, ids=[str(raw) for raw, _ in REFUSED])
def test_words_and_place_of_an_error(raw: bytes, words: str) -> None:
    with pytest.raises(StatusError) as caught:
        rapid_json.parse(raw)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == f"JSON Parse error: {words}"


def test_what_python_alone_would_not_take() -> None:
    value = rapid_json.parse(b' \n{"a": [Inf, -Inf, -NaN, Infinity, NaN, -Infinity], "Inf": "-NaN"} x')
    assert value["a"][:2] == [math.inf, -math.inf]
    assert value["a"][3] == math.inf
    assert value["a"][5] == -math.inf
    assert math.isnan(value["a"][2])
    assert math.isnan(value["a"][4])
    assert all(isinstance(item, rapid_json.Constant) for item in value["a"])
    assert value["Inf"] == "-NaN"
    assert rapid_json.encoded(rapid_json.parse(b'"\xff\\u00e9\xc3"')) == b"\xff\xc3\xa9\xc3"


SHOWN = [
    (
        b'{"a": [1.5, {"b": 2, "c": [1e21, 1e20, 1e-7, -0.0, 0.1]}, []], "d": {}}',
        '{\n    "a": [1.5, {\n            "b": 2,\n            "c": [1e21, 100000000000000000000.0, 1e-7, -0.0, 0.1]'
        '\n        }, []],\n    "d": {}\n}',
    ),
    (b'["\x7f/\\u001f\\u000b\\u00e9\\\\u000b"]', '["\x7f/\\u001F\\u000B\u00e9\\\\u000b"]'),
    # a whole number of more than 64 bits is a double
    (
        b"[18446744073709551615, -9223372036854775808, 100000000000000000000]",
        "[18446744073709551615, -9223372036854775808, 100000000000000000000.0]",
    ),
    (
        b"[0.000001, 1e-6, 1.5e300, 123456.75, true, null]",
        "[0.000001, 0.000001, 1.5e300, 123456.75, true, null]",
    ),
    (b'{"a": NaN, "b": 1}', '{\n    "a": '),  # its writer refuses NaN, and with it what follows
    (b"[" + b"1234567, " * 40 + b"1]", "[" + "1234567, " * 28 + "1234567"),  # ends once 256 bytes are there
]


@pytest.mark.parametrize(("raw", "text"), SHOWN, ids=[str(raw)[:40] for raw, _ in SHOWN])
def test_values_as_error_texts_show_them(raw: bytes, text: str) -> None:
    assert rapid_json.shown(rapid_json.parse(raw)) == text


def test_deep_and_long_values_are_shown_in_part() -> None:
    assert rapid_json.shown(rapid_json.parse(b"[" * 900 + b"]" * 900)) == "[" * 256
    assert len(rapid_json.shown({"a": "x" * 10**6})) < 300
