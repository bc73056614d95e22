"""Hostile input over REST: documents, paths and whole requests that are nearly right, or not at all.

`-m soak` runs it with 20,000 cases. Counts by HTTP code are printed, captured or not.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import http.client
import json
import socket
import struct
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from slipway_server import rest_routes
from slipway_server.memory import Budget, resident

from .conftest import Made, Server, StartServer, rest_without_models
from .fuzzing import Fuzz, assert_serves, fuzz
from .test_versions import spins

SHAPES, NET = "/v1/models/shapes", "/v1/models/net"
METRICS = "/monitoring/prometheus/metrics"
Case = tuple[str, str, str, bytes, dict[str, str]]  # kind, method, path, body, headers

# Codes a client's mistake earns. 501 too, but only where it names what is not implemented: a dtype without
# a JSON form, a method.
EXPECTED = {200, 400, 404, 413}
NOT_IMPLEMENTED = ("Conversion of JSON Value", "Not Implemented")
SESSION_TEXTS = (
    "node ",
    "Expects arg[",
    "Matrix size",
    "is not a matrix",
    "has different ndims",
    "Incompatible shapes",
    "arse example",
)

numbers = st.one_of(
    st.integers(-5, 5),
    st.floats(width=32),
    st.sampled_from([0.1, -0.0, 1e30, 1e300, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400]),
)
texts = st.one_of(st.text(max_size=12), st.sampled_from(["b64", "a\x00b", "\u00fc\u4e16\U0001f600"]))
encoded = st.binary(max_size=12).map(lambda raw: {"b64": base64.b64encode(raw).decode()})
leaves = st.one_of(
    numbers, texts, st.booleans(), st.none(), encoded, st.just({"b64": "!"}), st.just({"b64": 1})
)
names = st.sampled_from(
    [
        "signature_name",
        "instances",
        "inputs",
        "examples",
        "context",
        "x",
        "a",
        "b",
        "text",
        "images",
        "b64",
        "",
    ]
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
signatures = st.sampled_from(
    ["half_plus_three", "two", "two_defaulted", "constant", "reverse", "regress", "narrow", "", "nothing"]
    + [
        f"echo_{dtype}"
        for dtype in ("float32", "float64", "int8", "int64", "uint64", "bool", "string", "half")
    ]
)
headers = st.sampled_from(
    [{}] * 8
    + [{"Content-Encoding": "gzip"}, {"Content-Encoding": "br"}, {"Content-Type": "text/html"}]
    + [{"Connection": "close"}, {"Expect": "100-continue"}]
)


def dumped(document: Any) -> bytes:
    """JSON with NaN and infinities, which the server takes; halves of surrogate pairs go as bytes."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def fitting(draw: st.DrawFn) -> Case:
    """A valid predict in row or column form; now and then with one wrong value: most reach the session."""
    rows = draw(st.integers(1, 4))
    floats = st.floats(width=32)
    signature, element = draw(
        st.sampled_from(
            [
                ("half_plus_three", floats),
                ("constant", floats),
                ("echo_float32", st.lists(floats, min_size=2, max_size=2)),
                ("echo_float64", st.floats()),
                ("echo_int64", st.integers(-(2**63), 2**63 - 1)),
                ("echo_int8", st.integers(-300, 300)),
                ("echo_bool", st.booleans()),
                ("echo_string", st.one_of(st.text(max_size=20), encoded)),
                ("reverse", st.one_of(st.text(max_size=20), encoded)),
                (
                    "two",
                    st.fixed_dictionaries({name: st.lists(floats, min_size=2, max_size=2) for name in "ab"}),
                ),
                ("predict_images", st.sampled_from([784, 784, 783, 0]).map(lambda width: [0.5] * width)),
            ]
        )
    )
    given = draw(st.lists(element, min_size=rows, max_size=rows))
    if draw(st.integers(0, 9)) == 0:
        given[draw(st.integers(0, rows - 1))] = draw(values)
    if signature == "two" and draw(st.booleans()):
        columns = {name: [row.get(name) for row in given if isinstance(row, dict)] for name in "ab"}
        given = columns  # type: ignore[assignment]  # from here on either form
    form = "inputs" if isinstance(given, dict) else draw(st.sampled_from(["instances", "inputs"]))
    if signature == "constant":
        form = "inputs"  # a scalar output has no row per instance
    model = NET if signature == "predict_images" else SHAPES
    version = draw(st.sampled_from(["", "", "", "", "/versions/1", "/versions/1", "/versions/7"]))
    return (
        "fitting",
        "POST",
        f"{model}{version}:predict",
        dumped({"signature_name": signature, form: given}),
        {},
    )


@st.composite
def examples(draw: st.DrawFn) -> Case:
    """Classify and regress requests: features missing, of the wrong length or kind, or right."""
    if draw(st.booleans()):
        feature = st.one_of(
            st.floats(width=32), st.integers(-3, 3), st.lists(st.floats(width=32), max_size=2), values
        )
        given = draw(st.lists(st.dictionaries(st.sampled_from(["x", "y"]), feature, max_size=2), max_size=3))
        return (
            "examples",
            "POST",
            f"{SHAPES}:regress",
            dumped({"signature_name": "regress", "examples": given}),
            {},
        )
    item = st.sampled_from([784, 784, 784, 0, 783]).map(lambda length: {"x": [0.5] * length})
    document: dict[str, Any] = {"examples": draw(st.lists(item, max_size=3))}
    if draw(st.integers(0, 3)) == 0:
        document["context"] = draw(st.one_of(item, values))
    return "examples", "POST", f"{NET}:classify", dumped(document), {}


@st.composite
def loose(draw: st.DrawFn) -> Case:
    """Sound JSON of the API's own words, put together anyhow."""
    document = draw(st.one_of(st.dictionaries(names, values, max_size=4), values))
    if isinstance(document, dict):
        document = {**document, "signature_name": draw(st.one_of(signatures, values))}
    verb = draw(st.sampled_from(["predict", "classify", "regress"]))
    return "loose", "POST", f"{draw(st.sampled_from([SHAPES, NET]))}:{verb}", dumped(document), draw(headers)


@st.composite
def mangled(draw: st.DrawFn) -> Case:
    """A valid body whose bytes were cut, changed or doubled, some of them packed before or after that."""
    _, method, path, body, _ = draw(st.one_of(fitting(), examples()))
    packed = draw(st.integers(0, 5)) == 0
    raw = bytearray(gzip.compress(body, 1, mtime=0) if packed else body)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(raw) - 1, 0)))
        match draw(st.integers(0, 3)):
            case 0:
                del raw[at:]
            case 1:
                raw[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 2:
                raw[at:at] = draw(
                    st.sampled_from([b"[", b"{", b'"', b"\\u", b"-", b"e9", b"Inf", b"\xff", b","])
                )
            case _:
                raw[at:at] = raw[at : at + draw(st.integers(1, 20))]
    return "mangled", method, path, bytes(raw), {"Content-Encoding": "gzip"} if packed else {}


PIECES = (
    *(
        "/v1",
        "/models",
        "/net",
        "/shapes",
        "/versions",
        "/labels",
        "/1",
        "/-1",
        "/99999999999999999999",
        "/%00",
    ),
    *(
        "/metadata",
        "/METADATA",
        ":predict",
        ":PREDICT",
        ":",
        "/",
        "//",
        "?a=1",
        "%",
        "%zz",
        "/%ff%fe",
        "#f",
        "*",
    ),
)


@st.composite
def strange(draw: st.DrawFn) -> Case:
    """Methods and paths of all sorts, with bytes for a body."""
    piece = st.sampled_from(PIECES)
    path = draw(
        st.one_of(
            st.lists(piece, min_size=1, max_size=6).map("".join),
            st.sampled_from([NET, SHAPES, f"{NET}/metadata", METRICS, f"http://h{NET}", "/v1/models", "*"]),
        )
    )
    method = draw(
        st.sampled_from(["GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X"])
    )
    return "strange", method, path, draw(st.binary(max_size=40)), draw(headers)


CASES = st.one_of(fitting(), fitting(), fitting(), fitting(), examples(), loose(), mangled(), strange())


class RestFuzz(Fuzz):
    """All over one connection; a context that closes it."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)

    def __enter__(self) -> RestFuzz:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, kind: str, method: str, path: str, body: bytes, fields: dict[str, str]) -> None:
        case = kind, method, path, body, fields
        self.kinds[kind] += 1
        self._connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in fields.items():
            self._connection.putheader(name, value)
        self._connection.putheader("Content-Length", str(len(body)))
        self._connection.endheaders(body)
        response = self._connection.getresponse()
        text = response.read()
        self.codes[response.status] += 1
        assert response.status in EXPECTED | {501}, (response.status, text[:500], case)
        if response.status == 501:
            assert method == "HEAD" or any(words in text.decode() for words in NOT_IMPLEMENTED), (text, case)
        if method == "HEAD":
            assert text == b"", case
        elif response.headers["Content-Type"] == "application/json":
            document = json.loads(text.decode("utf-8", "surrogateescape"))
            assert (list(document) == ["error"]) is (response.status != 200), (text, case)
            error = document.get("error", "") if isinstance(document, dict) else ""
            posted = method == "POST" and response.status == 200
            self.reached += posted or any(words in error for words in SESSION_TEXTS)


def test_fuzz_rest(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with RestFuzz(server) as run:
        fuzz(run, CASES, 2000, capsys)


@pytest.mark.soak
def test_fuzz_rest_long(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with RestFuzz(server) as run:
        fuzz(run, CASES, 20_000, capsys)


WHOLE = (
    b"POST /v1/models/shapes:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b'Content-Length: 58\r\n\r\n{"signature_name": "half_plus_three", "instances": [1.0]} '
)


def test_mangled_requests_over_bare_sockets(server: Server) -> None:
    """One byte of a request changed or left out, each in turn: an answer in whole or none, never a 5xx."""
    codes: Counter[int] = Counter()
    for at in range(0, len(WHOLE), 2):
        for raw in (WHOLE[:at] + b"\x00" + WHOLE[at + 1 :], WHOLE[:at] + WHOLE[at + 1 :], WHOLE[:at]):
            with socket.create_connection(("127.0.0.1", server.rest_port), 10) as client:
                client.sendall(raw)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(20)
                got = b""
                while more := client.recv(65536):
                    got += more
            codes[int(got.split(b" ", 2)[1]) if got else 0] += 1
    assert set(codes) <= {0, 200, 400, 404, 501}, codes  # 501: a method nobody has
    assert codes[200]
    assert codes[400]
    assert_serves(server)
    assert not server.events("fault")


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + b"[" * 500_000,
        b'{"instances": [' + b"NaN," * 500_000 + b"Inf}",
        b'{"instances": [' + b"1e400," * 300_000 + b"1]}",
        b'{"signature_name": "' + b'\\"' * 1_000_000,
        b'{"signature_name": "' + b"\\u0041" * 300_000 + b'\\ud800"}',
        b'{"instances": [' + b"[]," * 500_000 + b"}",
        b'{"instances": [' + b"1" * 2_000_000 + b"]}",
        b'{"signature_name": "echo_string", "instances": ["' + b"\xff" * 1_000_000 + b'", 1]}',
        b" " * 2_000_000,
        b'{"' + b"a" * 1_000_000 + b'": 1}',
    ],
    ids=lambda body: f"{body[:24]}...",
)
def test_large_wrong_documents_are_refused_with_a_short_answer(server: Server, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    connection.request("POST", f"{SHAPES}:predict", body)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    assert response.status == 400, text[:300]
    assert len(text) < 4096
    assert_serves(server)


# ---- connections and requests a stranger may make ----------------------------------------------


def test_a_client_that_resets_while_its_request_runs_is_no_fault_of_the_server(
    made: Made, start: StartServer
) -> None:
    server = start("--model_name=shapes", f"--model_base_path={made.models}/shapes")
    body = json.dumps({"signature_name": "spin", "inputs": spins(server, 0.5)}).encode()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.rest_port), 10) as client:
            client.sendall(
                b"POST /v1/models/shapes:predict HTTP/1.1\r\nHost: x\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            time.sleep(0.2)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert server.stop() == 0  # waits for the runs, and so for what became of their answers
    assert not server.events("fault")


def test_the_origin_before_a_path_is_looked_for_at_its_beginning_alone() -> None:
    assert rest_routes.without_origin("http://model.example:80/v1/models/m?a=b") == "/v1/models/m?a=b"
    assert rest_routes.without_origin("/v1/models/m?next=http://x/y") == "/v1/models/m?next=http://x/y"
    letters = "a" * 2_000_000  # looked for at every letter, this would take hours
    assert rest_routes.without_origin(letters) == letters


def test_a_version_of_thousands_of_digits(server: Server) -> None:
    for digits, code in (("9" * 5000, 400), ("9" * 19, 400), ("0" * 5000 + "1", 200)):
        status, body = server.http(f"/v1/models/net/versions/{digits}")
        assert status == code, body


def test_bodies_are_claimed_while_they_come_and_given_back() -> None:
    async def asked(port: int, size: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST /v1/models/a:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
        writer.write(head + b"{}".ljust(size))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.close()
        return answer.split(b" ")[1]

    async def scenario() -> None:
        budget = Budget(1_000_000, resident())
        async with rest_without_models(budget) as port:
            assert [await asked(port, size) for size in (1_000, 600_000, 1_000)] == [b"404", b"503", b"404"]
            while budget.claimed:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_client_that_offers_http2_keeps_its_connection(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    for _ in range(2):
        connection.request("GET", NET, headers={"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        assert not response.will_close
    connection.close()


def test_a_body_in_tiny_chunks(server: Server) -> None:
    body = b'{"signature_name": "half_plus_three", "instances": [1.0]}'.ljust(40_000)
    chunks = b"".join(b"2\r\n%s\r\n" % body[at : at + 2] for at in range(0, len(body), 2))
    with socket.create_connection(("127.0.0.1", server.rest_port), 10) as client:
        client.sendall(
            b"POST /v1/models/shapes:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.sendall(chunks + b"0\r\n\r\n")
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200"), answer
