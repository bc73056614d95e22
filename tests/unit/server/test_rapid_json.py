"""What RapidJSON takes is taken and what it refuses is refused, in words of our own. RapidJSON 1.1.0 itself
was asked, compiled with the flags of TensorFlow Serving's util/json_tensor.cc (workspace.bzl:54 names the
version)."""

from __future__ import annotations

import math
import re

import pytest
from slipway_server import rapid_json
from slipway_server.codes import Code, StatusError

REFUSED = [
    b"   ",
    b"}",
    b"x",
    b'{"a": ',
    b'{"a": }',
    b'{"a" 1}',
    b'{"a": 1,}',
    b"{a: 1}",
    b"{'a': 1}",
    b"[1, ]",
    b"[1 2]",
    b'{"a": [1}',
    b'{"a": ["]", 1]',
    b'{"a": 1 "b": 2}',
    b'{"a": 01}',
    b'{"a": 1.}',
    b'{"a": 1.5.}',
    b'{"a": 1e+}',
    b'{"a": -}',
    b'{"a": +1}',
    b'{"a": nul}',
    b'{"a": None}',
    b'{"a": True}',
    b'{"a": Infini}',
    b'{"a": "x',
    b'{"a": "\x00"}',
    b'{"a": "\\u00e9',
    b'{"a": "\\x"}',
    b'{"a": "\n"}',
    b'{"a": "\\',
    b'{"a": "\\u12g4"}',
    b'{"a": "\\ud800"}',
    b'{"a": Inf, "b": [-NaN 1]}',
    '\ufeff{"\u00fc": 1'.encode(),
]


@pytest.mark.parametrize("raw", REFUSED, ids=str)
def test_what_rapidjson_refuses_is_refused_and_its_place_told(raw: bytes) -> None:
    with pytest.raises(StatusError) as caught:
        rapid_json.parse(raw)
    assert caught.value.code is Code.INVALID_ARGUMENT
    words = r"JSON Parse error: (?:not valid JSON|half of a surrogate pair) at offset (\d+)"
    match = re.fullmatch(words, caught.value.message)
    assert match is not None
    assert 0 <= int(match[1]) <= len(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": ', "not valid JSON at offset 6"),
        (b'{"a" 1}', "not valid JSON at offset 5"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair at offset 7"),
        # offsets are bytes, the mark at the beginning among them
        ('\ufeff{"\u00fc": 1'.encode(), "not valid JSON at offset 11"),
        (b'{"a": Inf, "b": [-NaN 1]}', "not valid JSON at offset 22"),
    ],
)
def test_the_place_of_an_error(raw: bytes, words: str) -> None:
    with pytest.raises(StatusError, match=f"^JSON Parse error: {words}$"):
        rapid_json.parse(raw)


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
    (b'{"a": [1.5, {"b": 2}, []], "d": {}}', '{"a": [1.5, {"b": 2}, []], "d": {}}'),
    (b'["\\u00e9\\n", NaN, -Inf, true, null]', '["\u00e9\\n", NaN, -Infinity, true, null]'),
    (b"[18446744073709551615, -0.0, 1e300]", "[18446744073709551615, -0.0, 1e+300]"),
    (b"[" + b"1234567, " * 40 + b"1]", "[" + "1234567, " * 28 + "123..."),  # 256 characters
]


@pytest.mark.parametrize(("raw", "text"), SHOWN, ids=[str(raw)[:40] for raw, _ in SHOWN])
def test_values_as_error_texts_show_them(raw: bytes, text: str) -> None:
    assert rapid_json.shown(rapid_json.parse(raw)) == text


def test_deep_and_long_values_are_shown_in_part() -> None:
    assert rapid_json.shown(rapid_json.parse(b"[" * 900 + b"]" * 900)) == "[" * 256 + "..."
    assert len(rapid_json.shown({"a": "x" * 10**6})) < 300


def test_strings_are_written_as_rapidjson_writes_them() -> None:
    assert rapid_json.quoted("\x7f/\x1f\x0b\u00e9\\u000b") == '"\x7f/\\u001F\\u000B\u00e9\\\\u000b"'
