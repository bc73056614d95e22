"""Hostile input: the right code, bounded memory, and the next good request is answered.

`-m soak` runs the fuzz test with 200,000 cases. Counts by status code are printed, captured or not.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import strategies as st
from slipway_client import messages
from slipway_client.dtypes import NAMES, NUMBERS, DataType
from slipway_server.session_tensors import LARGEST_TENSOR

from .conftest import MODEL, PREDICTION, TELL_RUNS, Made, Server, StartServer, predict_request
from .fuzzing import GOOD, MIB, Fuzz, assert_serves, fuzz
from .protos import INT32, STRING, example, floats, tensor
from .test_versions import spins


def refused(server: Server, request: Any, method: str = "Predict") -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        server.raw(f"{PREDICTION}/{method}", request.SerializeToString())
    failure: Any = caught.value
    return failure.code().name, failure.details()


# ---- tensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[2**29], [2**20, 2**20], [2**62, 2**62], [2**63 - 1], [2**31, 2**31, 4]])
@pytest.mark.parametrize("fields", [{}, {"float_val": [1.0]}, {"tensor_content": b"\0\0\0\0"}])
def test_a_few_bytes_cannot_claim_gigabytes(server: Server, shape: list[int], fields: dict[str, Any]) -> None:
    before = server.resident()
    code, text = refused(
        server, predict_request("shapes", "half_plus_three", x=tensor(DataType.DT_FLOAT, shape, **fields))
    )
    assert code == "INVALID_ARGUMENT"
    assert f"the most this server takes for one tensor is {LARGEST_TENSOR}" in text
    assert server.resident() - before < 16 * MIB
    assert_serves(server)


@pytest.mark.parametrize(
    "proto",
    [
        floats([-1], [1]),
        floats([2, -3], [1]),
        floats([-(2**63)], [1]),
        floats([1] * 300, [1]),
        floats([0, -1], []),
        tensor(DataType.DT_FLOAT, [2], tensor_content=b"123"),
        tensor(DataType.DT_FLOAT, [2], tensor_content=b"1" * 9),
        tensor(DataType.DT_DOUBLE, [1], tensor_content=b"1234"),
        tensor(DataType.DT_FLOAT, [2], tensor_content=b"12345678", float_val=[1, 2, 3]),
        tensor(STRING, [2**40]),
        tensor(STRING, [3], tensor_content=b"\xff\xff\xff"),
        tensor(DataType.DT_RESOURCE, []),
        tensor(DataType.DT_VARIANT, []),
        tensor(DataType.DT_INVALID, [1]),
        tensor(NUMBERS["DT_FLOAT_REF"], [1], float_val=[1]),
        tensor(9999, [1], float_val=[1]),
        tensor(DataType.DT_INT32, [2], float_val=[1, 2], int_val=[1, 2]),
    ],
    ids=str,
)
def test_shape_dtype_and_content_that_disagree(server: Server, proto: Any) -> None:
    try:
        server.predict(predict_request("shapes", "half_plus_three", x=proto))
    except grpc.RpcError as error:
        failure: Any = error
        assert failure.code().name == "INVALID_ARGUMENT", failure.details()
    assert_serves(server)


def test_surplus_values_are_read_as_tensorflow_reads_them(server: Server) -> None:
    # Tensor::FromProto takes the first of too many values, and repeats the last of too few.
    few = server.predict(predict_request("shapes", "half_plus_three", x=floats([4], [1, 2])))
    assert list(few.outputs["y"].float_val) == [3.5, 4, 4, 4]
    many = server.predict(predict_request("shapes", "half_plus_three", x=floats([1], [1, 2, 3])))
    assert list(many.outputs["y"].float_val) == [3.5]


def test_nan_and_infinity_are_numbers(server: Server) -> None:
    values = [math.nan, math.inf, -math.inf]
    response = server.predict(predict_request("shapes", "half_plus_three", x=floats([3], values)))
    told = list(response.outputs["y"].float_val)
    assert math.isnan(told[0])
    assert told[1:] == [math.inf, -math.inf]


# ---- fuzzing ---------------------------------------------------------------------------------


class GrpcFuzz(Fuzz):
    SESSION_TEXTS = (
        "node ",
        "Expects arg[",
        "Matrix size",
        "is not a matrix",
        "has different ndims",
        "Incompatible shapes",
        "parse",
    )

    def send(self, kind: str, method: str, raw: bytes) -> None:
        self.kinds[kind] += 1
        try:
            self.server.raw(method, raw, timeout=30)
        except grpc.RpcError as error:
            failure: Any = error
            code = failure.code().name
            self.codes[code] += 1
            # Whatever a client sends is the client's mistake: UNKNOWN, UNAVAILABLE, DEADLINE_EXCEEDED or
            # an INTERNAL that is not about parsing would be the server's.
            assert code in EXPECTED, (code, failure.details(), raw)
            if code == "INTERNAL":
                assert "is not a valid" in failure.details(), (failure.details(), raw)
            self.reached += any(text in failure.details() for text in self.SESSION_TEXTS)
        else:
            self.codes["OK"] += 1
            self.reached += method in COMPUTED


COMPUTED = {f"{PREDICTION}/{name}" for name in ("Predict", "Classify", "Regress")}
EXPECTED = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "UNIMPLEMENTED",
    "OUT_OF_RANGE",
}
METHODS = (
    *(f"{PREDICTION}/{name}" for name in ("Predict", "Classify", "Regress", "GetModelMetadata")),
    *(f"{MODEL}/{name}" for name in ("GetModelStatus",)),
)
SIGNATURES = ("half_plus_three", "two", "two_defaulted", "constant", "reverse", "echo_int64", "echo_bool", "")
DTYPES = sorted({*NAMES, 77})
dims = st.lists(
    st.one_of(
        st.integers(0, 5), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-1, 784, 2**31, 2**32, 2**62])
    ),
    max_size=5,
)
small = st.lists(st.integers(0, 4), max_size=4)
numbers = st.lists(st.floats(width=32), max_size=8)


@st.composite
def any_tensor(draw: st.DrawFn) -> Any:
    """A TensorProto of any dtype, shape and content, agreeing or not."""
    proto = tensor(draw(st.sampled_from(DTYPES)), draw(st.one_of(small, dims)))
    if draw(st.booleans()):
        proto.tensor_content = draw(st.binary(max_size=64))
    if draw(st.booleans()):
        proto.float_val.extend(draw(numbers))
    for name, values in (
        ("int_val", st.integers(-(2**31), 2**31 - 1)),
        ("int64_val", st.integers(-(2**63), 2**63 - 1)),
        ("string_val", st.binary(max_size=16)),
        ("bool_val", st.booleans()),
        ("half_val", st.integers(-(2**31), 2**31 - 1)),
        ("double_val", st.floats()),
        ("uint64_val", st.integers(0, 2**64 - 1)),
    ):
        if draw(st.integers(0, 4)) == 0:
            getattr(proto, name).extend(draw(st.lists(values, max_size=6)))
    proto.tensor_shape.unknown_rank = draw(st.integers(0, 9)) == 0
    return proto


@st.composite
def fitting(draw: st.DrawFn) -> bytes:
    """A valid request to a signature, then one thing about it changed: most still reach the session."""
    rows = draw(st.integers(0, 4))
    choice = draw(st.integers(0, 6))
    if choice == 0:
        request = predict_request("shapes", "half_plus_three", x=floats([rows], draw(numbers)))
    elif choice == 1:
        values = draw(st.lists(st.floats(width=32), min_size=1, max_size=8))
        width = draw(st.sampled_from([2, 2, 2, 1, 3, 784]))
        request = predict_request(
            "shapes", "two", a=floats([rows, width], values), b=floats([rows, 2], values)
        )
    elif choice == 2:
        width = draw(st.sampled_from([784, 784, 783, 785, 1, 0]))
        request = predict_request("net", "predict_images", images=floats([rows, width], draw(numbers)))
    elif choice == 3:
        texts = draw(st.lists(st.binary(max_size=40), max_size=6))
        request = predict_request("shapes", "reverse", text=tensor(STRING, [len(texts)], string_val=texts))
    elif choice == 4:
        dtype, field = draw(
            st.sampled_from([(INT32, "int_val"), (9, "int64_val"), (2, "double_val"), (10, "bool_val")])
        )
        proto = tensor(dtype, draw(small), **{field: [1]})
        request = predict_request("shapes", draw(st.sampled_from(["half_plus_three", "echo_int64"])), x=proto)
    elif choice == 5:
        raw = struct.pack(f"<{rows}f", *[draw(st.floats(width=32)) for _ in range(rows)])
        proto = tensor(DataType.DT_FLOAT, [rows], tensor_content=raw)
        request = predict_request("shapes", "constant", x=proto)
        request.output_filter.extend(draw(st.lists(st.sampled_from(["scalar", "empty", "same"]), max_size=2)))
    else:
        request = predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[draw(st.integers(-5, 5))]))
    if draw(st.integers(0, 5)) == 0:
        request.model_spec.version.value = draw(st.integers(0, 3))
    return bytes(request.SerializeToString())


@st.composite
def examples(draw: st.DrawFn) -> bytes:
    """Classify requests: features missing, of the wrong length or kind, or right."""
    request = messages.ClassificationRequest()
    request.model_spec.name = "net"
    for _ in range(draw(st.integers(0, 3))):
        length = draw(st.sampled_from([784, 784, 784, 0, 783]))
        item = example(**{draw(st.sampled_from(["x", "x", "x", "y"])): [draw(st.floats(width=32))] * length})
        request.input.example_list.examples.append(item)
    return bytes(request.SerializeToString())


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A valid request whose bytes were cut, changed or doubled."""
    raw = bytearray(draw(st.one_of(fitting(), examples())))
    for _ in range(draw(st.integers(1, 3))):
        if not raw:
            break
        at = draw(st.integers(0, len(raw) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                del raw[at:]
            case 1:
                raw[at] = draw(st.integers(0, 255))
            case 2:
                del raw[at]
            case _:
                raw[at:at] = raw[at : at + draw(st.integers(1, 20))]
    return bytes(raw)


@st.composite
def made_up(draw: st.DrawFn) -> bytes:
    """A well-formed request whose tensors are anything at all."""
    names = draw(st.lists(st.sampled_from(["x", "a", "b", "text", "images", "z"]), max_size=3, unique=True))
    inputs = {name: draw(any_tensor()) for name in names}
    request = predict_request("shapes", draw(st.sampled_from(SIGNATURES)), **inputs)
    request.output_filter.extend(draw(st.lists(st.sampled_from(["y", "sum", "z"]), max_size=2)))
    return bytes(request.SerializeToString())


CASES = st.one_of(
    st.tuples(st.just("fitting"), st.just(f"{PREDICTION}/Predict"), fitting()),
    st.tuples(st.just("fitting"), st.just(f"{PREDICTION}/Predict"), fitting()),
    st.tuples(st.just("examples"), st.just(f"{PREDICTION}/Classify"), examples()),
    st.tuples(st.just("made_up"), st.just(f"{PREDICTION}/Predict"), made_up()),
    st.tuples(st.just("mangled"), st.sampled_from(METHODS), mangled()),
    st.tuples(st.just("random"), st.sampled_from(METHODS), st.binary(max_size=300)),
)


def test_fuzz(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fuzz(GrpcFuzz(server), CASES, 5000, capsys)


@pytest.mark.soak
def test_fuzz_long(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fuzz(GrpcFuzz(server), CASES, 200_000, capsys)


# ---- gRPC connections ------------------------------------------------------------------------


def test_a_message_over_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    request = predict_request(
        "shapes", "half_plus_three", x=tensor(1, [1], tensor_content=b"\0" * (65 * MIB))
    )
    code, text = refused(server, request)
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in text
    assert_serves(server)


def test_a_http2_frame_that_claims_two_gigabytes(server: Server) -> None:
    # Connection preface, empty SETTINGS, HEADERS of a Predict, and DATA with a gRPC prefix of 2 GiB - 1.
    before = server.resident()
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        head = b"".join(
            literal(name, value)
            for name, value in (
                (":method", "POST"),
                (":scheme", "http"),
                (":path", f"/{PREDICTION}/Predict"),
                (":authority", "x"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            )
        )
        client.sendall(
            frame(1, 4, 1, head) + frame(0, 0, 1, b"\0" + struct.pack(">I", 2**31 - 1) + b"\x0a" * 64)
        )
        assert b"larger than max" in drain(client, b"larger than max")
    assert server.resident() - before < 16 * MIB
    assert_serves(server)


def test_calls_that_never_send_their_message_blind_no_probe_and_end(made: Made, start: StartServer) -> None:
    server = start(
        "--model_name=shapes",
        f"--model_base_path={made.models}/shapes",
        # gRPC, which this loads before the server could say so, must keep its lines to itself
        before="import os; os.environ['GRPC_VERBOSITY'] = 'NONE'\n"
        "from slipway_server import arrivals, grpc_api\n"
        "grpc_api.MOST_IN_FLIGHT, arrivals.ARRIVAL_SECONDS = 4, 5",
    )
    silent = threading.Event()

    def nothing() -> Iterator[bytes]:
        silent.wait(60)
        yield from ()

    begin = server.channel.stream_unary(f"/{PREDICTION}/Predict")
    calls = [begin.future(nothing(), timeout=60) for _ in range(4)]
    try:
        deadline = time.monotonic() + 30
        told = ""
        while "too many requests" not in told and time.monotonic() < deadline:
            try:
                server.predict(GOOD)
            except grpc.RpcError as error:
                failure: Any = error
                assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                told = failure.details()
            else:  # it may have been the fourth itself, and one of the silent ones refused
                calls = [begin.future(nothing(), timeout=60) if call.done() else call for call in calls]
        assert "too many requests under way" in told
        assert server.raw("grpc.health.v1.Health/Check", b"") == b"\x08\x01"
        for call in calls:
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "did not arrive in time" in call.details()
        assert_serves(server)
    finally:
        silent.set()
    assert not server.events("fault")


def test_garbage_and_half_closed_connections(server: Server) -> None:
    for port in (server.port, server.rest_port):
        for sent in (
            b"\0" * 100,
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
            b"",
        ):
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(10)
                try:
                    while client.recv(4096):
                        pass
                except OSError:
                    pass  # reset: as good an end as a close
    assert_serves(server)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    """An HPACK header field without indexing or Huffman coding."""
    return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def drain(client: socket.socket, until: bytes) -> bytes:
    client.settimeout(10)
    got = b""
    while until not in got and (more := client.recv(65536)):
        got += more
    return got


# ---- HTTP ------------------------------------------------------------------------------------


def exchange(server: Server, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send the parts, close the write side, read to the end."""
    with socket.create_connection(("127.0.0.1", server.rest_port), 10) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(20)
        got = b""
        while more := client.recv(65536):
            got += more
        return got


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        "POST /v1/models/shapes:predict HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


ASKED = b'{"signature_name": "half_plus_three", "instances": [1.0]}'


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_half_closed_client_gets_its_answer(server: Server) -> None:
    answer = exchange(server, post(ASKED))
    assert status_of(answer) == 200
    assert b"[3.5\n" in answer


def test_a_body_in_single_bytes(server: Server) -> None:
    whole = post(ASKED)
    answer = exchange(server, *[whole[at : at + 1] for at in range(len(whole))], pause=0.001)
    assert status_of(answer) == 200


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 40_000 + b"\r\n", 431),
        (post(b"", "Content-Length: 7", length=5), 400),
        (post(b"{}", length=-2), 400),
        (post(b"{}", "Transfer-Encoding: strange", length=2), 501),
        (
            b"POST /v1/models/shapes:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (post(ASKED, "Content-Encoding: gzip"), 400),
        (post(b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 400),
        (
            post(b'{"signature_name": "half_plus_three", "inputs": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}"),
            400,
        ),
        (post(b'{"a": ' * 50_000 + b"1" + b"}" * 50_000), 400),
        (post(b'{"signature_name": "echo_string", "inputs": "\\ud800"}'), 400),
        (post(b'{"signature_name": "echo_float32", "inputs": 1' + b"0" * 400 + b"}"), 400),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_http_and_bad_json(server: Server, raw: bytes, code: int) -> None:
    answer = exchange(server, raw)
    assert status_of(answer) == code, answer[:300]
    assert b'"error": "' in answer
    assert_serves(server)


def test_a_body_over_the_limit_is_refused_before_it_is_held(server: Server) -> None:
    before = server.resident("VmHWM")
    with socket.create_connection(("127.0.0.1", server.rest_port), 10) as client:
        client.sendall(post(b"", length=2**31))
        chunk = b" " * MIB

        def flood() -> None:
            try:
                for _ in range(2048):
                    client.sendall(chunk)
            except OSError:
                pass  # the server closed: what it should

        sender = threading.Thread(target=flood)
        sender.start()
        answer = drain(client, b"is larger than")
        sender.join()
    assert status_of(answer) == 413
    assert server.resident("VmHWM") - before < 160 * MIB
    assert_serves(server)


def test_a_small_gzip_body_cannot_unpack_without_bound(server: Server) -> None:
    import zlib

    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * MIB) for _ in range(128)) + packer.flush()
    before = server.resident("VmHWM")
    answer = exchange(server, post(bomb, "Content-Encoding: gzip"))
    assert status_of(answer) == 400
    assert b"when unpacked" in answer
    assert server.resident("VmHWM") - before < 160 * MIB


def test_slow_clients_do_not_keep_others_waiting(server: Server) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.rest_port), 10) for _ in range(50)]
    for client in slow[:25]:
        client.sendall(b"POST /v1/models/shapes:predict HTTP/1.1\r\nHost:")
    for client in slow[25:]:
        client.sendall(post(ASKED[:10], length=len(ASKED)))
    for value in (1.0, 2.0, 3.0):
        body = {"signature_name": "half_plus_three", "instances": [value]}
        assert server.http("/v1/models/shapes:predict", body) == (200, {"predictions": [value * 0.5 + 3]})
    slow[25].sendall(ASKED[10:])
    assert b"3.5" in drain(slow[25], b"3.5")
    for client in slow:
        client.close()
    assert_serves(server)


def test_a_slow_run_does_not_keep_others_waiting(made: Made, start: StartServer) -> None:
    server = start("--model_name=shapes", f"--model_base_path={made.models}/shapes", before=TELL_RUNS)
    rounds = spins(server, 3)
    begun = len(server.events("run_begins"))
    done: list[float] = []

    def spin() -> None:
        server.predict(predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[rounds])))
        done.append(time.monotonic())

    spinner = threading.Thread(target=spin)
    spinner.start()
    server.wait_for("run_begins", count=begun + 1)
    quick = 0
    while spinner.is_alive():
        assert_serves(server)
        quick += 1
    spinner.join()
    assert done
    assert quick > 3  # a server that computes one thing at a time answers one, after the slow one
