"""The Open Inference Protocol: what is written, what is read, and each thing that servers do in their own way."""

from __future__ import annotations

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from slipway_client import messages
from slipway_client.check import check
from slipway_client.connect import connect
from slipway_client.errors import (
    NotReachable,
    NotReady,
    RequestFailed,
    UsageError,
    WrongModel,
    WrongSignature,
)
from slipway_client.interface import Reply
from slipway_client.v2 import DATATYPES, from_raw, to_raw
from slipway_client.v2_over_grpc import FIELDS, V2OverGrpc, infer_request
from slipway_client.v2_over_rest import HEADER, V2OverRest, infer_body

from tests.standins.inference_server import Conduct, InferenceStandIn
from tests.standins.model_server import StandIn, fixed_requests, scores_of

TRANSPORTS = ("grpc", "rest")
ROW = np.arange(8, dtype=np.float32)[None] / 8
TEXTS = np.array([["a", b"\xff\x00"], ["", "zwölf"]], dtype=object)
PREDICTS = [one for one in fixed_requests(4) if one.method == "predict"]


def _client(server, transport, protocol="v2", **options):
    address = server.address if transport == "grpc" else server.rest
    return connect(address, transport, protocol=protocol, timeout=60.0, **options)


def _run(steps, *replies):
    """What an API makes of these replies."""
    waiting = iter(replies)
    try:
        next(steps)
        while True:
            steps.send(next(waiting))
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize("protocol", ["v2", "auto"])
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "conduct", [Conduct(), Conduct(raw=True, nested=True), Conduct(version="v1-beta", declared=False)]
)
def test_a_server_is_proved(transport, protocol, conduct):
    conduct = replace(conduct)
    with InferenceStandIn(conduct) as server, _client(server, transport, protocol) as client:
        assert client.ready("mnist")
        report = check(client, "mnist", PREDICTS)
        assert (report.ok, report.compared) == (True, 4)
        assert report.versions == ((3,) if conduct.version == "3" else ())
        conduct.off_by = 0.01
        assert check(client, "mnist", PREDICTS).differences == 4


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_auto_finds_tensorflow_serving_too(transport):
    with StandIn() as server, _client(server, transport, "auto") as client:
        assert check(client, "mnist", fixed_requests(2)).ok


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("contents", ["raw", "typed"])
def test_contents_are_written_as_asked(transport, contents):
    with InferenceStandIn() as server, _client(server, transport, contents=contents) as client:
        answer = client.predict("mnist", "any name", {"images": ROW}, output_filter=["scores"])
        np.testing.assert_allclose(answer.outputs["scores"], scores_of(ROW), atol=1e-7)
        assert answer.version == 3
        if transport == "grpc":
            assert server.typed is (contents == "typed")
        else:
            assert (HEADER in server.headers, server.binary) == (contents == "raw", contents == "raw")
            client.predict("mnist", "", {"images": ROW})
            assert server.binary is (contents == "raw")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_metadata(transport):
    with InferenceStandIn() as server, _client(server, transport) as client:
        signature = client.metadata("mnist").signature("serving_default", "here")
    assert (signature.inputs["images"].dtype, signature.inputs["images"].shape) == ("float32", (None, 8))
    assert signature.outputs["scores"].shape == (None, 3)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("unready", [False, True])
def test_a_model_the_server_does_not_have(transport, unready):
    conduct = Conduct(unknown_is_unready=unready)
    with InferenceStandIn(conduct) as server, _client(server, transport) as client:
        for ask in (client.status, client.metadata):
            with pytest.raises(WrongModel, match="'other'"):
                ask("other")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_model_that_is_not_ready(transport):
    with InferenceStandIn(Conduct(ready=False)) as server, _client(server, transport) as client:
        assert not client.ready("mnist")
        with pytest.raises(NotReady, match="no version") as caught:
            check(client, "mnist", PREDICTS, ready_timeout=0.1)
    assert "the model: LOADING (the server is not ready)" in caught.value.tail


@pytest.mark.parametrize(
    ("ready", "described", "wanted"),
    [
        (Reply("UNKNOWN", said="a ModelNotFound"), Reply("NOT_FOUND", said="not found"), WrongModel),
        (Reply("UNAUTHENTICATED"), Reply("UNAUTHENTICATED", said="who?"), RequestFailed),
        (Reply("UNIMPLEMENTED"), Reply("UNIMPLEMENTED"), NotReachable),
    ],
)
def test_what_a_server_refuses_is_told_by_the_models_metadata(ready, described, wanted):
    with pytest.raises(wanted):
        _run(V2OverGrpc("here", raw=True).status("m"), ready, described)


@pytest.mark.parametrize("status", ["UNAVAILABLE", "NOT_FOUND"])
def test_a_model_that_loads_is_told_in_the_servers_words(status):
    loading = Reply(status, said="'m' has no available versions")
    (found,) = _run(V2OverGrpc("here", raw=True).status("m"), Reply("OK"), loading, Reply("OK", b"\x08\x01"))
    assert (found.state, found.error) == (
        "LOADING",
        "(the server is ready, the model is not) 'm' has no available versions",
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_requests_that_the_protocol_does_not_have_are_refused_before_anything_is_asked(transport):
    with InferenceStandIn() as server, _client(server, transport) as client:
        with pytest.raises(WrongSignature):
            check(client, "mnist", fixed_requests(1))
        for ask in (client.classify, client.regress):
            with pytest.raises(UsageError, match="Open Inference Protocol has no"):
                ask("mnist", "s", [{"x": ROW[0]}])
    with (
        InferenceStandIn(Conduct(declared=False)) as server,
        _client(server, transport) as client,
        pytest.raises(UsageError, match="has no Classify"),
    ):
        check(client, "mnist", fixed_requests(1))


def _arrays():
    """One array for each datatype, with the ends of its range."""
    for name, dtype in DATATYPES.items():
        if dtype.kind == "b":
            values = np.array([[True, False]])
        elif dtype.kind in "iu":
            info = np.iinfo(dtype)
            values = np.array([[info.min, info.max, 1]], dtype)
        else:
            values = np.array([[0.5, -1.0, float(ml_dtypes.finfo(dtype).max)]]).astype(dtype)
        yield pytest.param(name, values, id=name)


@pytest.mark.parametrize(("name", "array"), _arrays())
@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_every_datatype_there_and_back_over_both_transports(name, array, raw):
    request = None
    if raw or name in FIELDS:
        request = infer_request("m", {"x": array}, raw=raw)
        (one,) = request.inputs
        assert (one.datatype, list(one.shape)) == (name, list(array.shape))
        answer = messages.ModelInferResponse(raw_output_contents=request.raw_input_contents)
        answer.outputs.add(name="x", datatype=name, shape=one.shape).contents.CopyFrom(one.contents)
        read = V2OverGrpc("here", raw=raw)._read(answer.SerializeToString(), Reply("OK"))
        _same(read.outputs["x"], array)
    else:
        with pytest.raises(UsageError, match="raw contents only"):
            infer_request("m", {"x": array}, raw=raw)
    body, headers = infer_body({"x": array}, raw=raw)
    length = int(headers.get(HEADER, len(body)))
    said = json.loads(body[:length])
    answered = json.dumps({"outputs": said["inputs"]}).encode()
    back = {HEADER: str(len(answered))} if raw else {}
    read = V2OverRest("here", raw=raw)._read(answered + body[length:], Reply("OK", headers=back))
    _same(read.outputs["x"], array)


def _same(found, wanted):
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


def test_texts_have_their_lengths_before_them_and_json_has_no_bytes():
    raw = to_raw(np.array(["ab", b"\xff"], dtype=object), "BYTES")
    assert raw == b"\x02\x00\x00\x00ab\x01\x00\x00\x00\xff"
    assert from_raw(to_raw(TEXTS, "BYTES"), "BYTES", [2, 2]).tolist() == [
        [b"a", b"\xff\x00"],
        [b"", "zwölf".encode()],
    ]
    request = infer_request("m", {"x": TEXTS}, raw=False)
    assert list(request.inputs[0].contents.bytes_contents) == [b"a", b"\xff\x00", b"", "zwölf".encode()]
    with pytest.raises(UsageError, match="input x: JSON holds text"):
        infer_body({"x": TEXTS})


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_json_has_no_such_number(number):
    with pytest.raises(UsageError, match="no NaN"):
        infer_body({"x": np.array([number], np.float32)})


def test_a_dtype_the_protocol_does_not_have():
    with pytest.raises(UsageError, match="complex64"):
        infer_request("m", {"x": np.zeros(1, np.complex64)})


def test_nothing_but_an_empty_array_is_in_an_empty_array():
    for datatype in (*DATATYPES, "BYTES"):
        assert from_raw(b"", datatype, [0, 3]).shape == (0, 3)


def _answer(**tensor):
    raw = tensor.pop("raw", [])
    answer = messages.ModelInferResponse(raw_output_contents=raw)
    answer.outputs.add(name="y", **tensor)
    return answer.SerializeToString()


def _json(output, **more):
    return json.dumps({"outputs": [{"name": "y", **output}], **more}).encode()


ODD_MESSAGES = [
    b"\xff\xff",
    _answer(datatype="FP32", shape=[1], raw=[b"123"]),
    _answer(datatype="FP32", shape=[1], raw=[b"1234", b"1234"]),
    _answer(datatype="FP32", shape=[2], raw=[b"1234"]),
    _answer(datatype="FP32", shape=[-1], raw=[b"1234"]),
    _answer(datatype="FP32", shape=[1 << 40], raw=[b"1234"]),
    _answer(datatype="FP32", shape=[1]),
    _answer(datatype="FP16", shape=[1]),
    _answer(datatype="FP8", shape=[1], raw=[b"1"]),
    _answer(datatype="BYTES", shape=[1], raw=[b"\x05\x00\x00\x00ab"]),
    _answer(datatype="BYTES", shape=[2], raw=[b"\x01\x00\x00\x00a"]),
]
ODD_JSON = [
    (b"", {}),
    (b"[1]", {}),
    (b"{}", {}),
    (_json({"datatype": "FP32", "shape": [1]}), {}),
    (_json({"datatype": "FP32", "shape": [1], "data": 1}), {}),
    (_json({"datatype": "FP32", "shape": [1], "data": ["1"]}), {}),
    (_json({"datatype": "FP32", "shape": [1], "data": [None]}), {}),
    (_json({"datatype": "FP32", "shape": [2, 2], "data": [[1, 2], 3, 4]}), {}),
    (_json({"datatype": "INT8", "shape": ["x"], "data": [1]}), {}),
    (_json({"datatype": "INT8", "shape": [1], "data": [300]}), {}),
    (_json({"datatype": "INT8", "shape": [1], "data": [1.5]}), {}),
    (_json({"datatype": "BOOL", "shape": [1], "data": [2]}), {}),
    (_json({"datatype": "FP32", "shape": [1], "data": [True]}), {}),
    (_json({"datatype": "BYTES", "shape": [1], "data": [1]}), {}),
    (_json({"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}), {}),
    (_json({"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": -4}}), {HEADER: "10"}),
    (_json({"datatype": "FP32", "shape": [1], "data": [1]}), {HEADER: "9999"}),
    (_json({"datatype": "FP32", "shape": [1], "data": [1]}), {HEADER: "x"}),
]


@pytest.mark.parametrize("body", ODD_MESSAGES)
def test_odd_messages_are_the_servers_fault(body):
    with pytest.raises(RequestFailed, match="cannot be read"):
        _run(V2OverGrpc("here", raw=True).predict("m", "", {"x": ROW}, None, ()), Reply("OK", body))


@pytest.mark.parametrize(("body", "headers"), ODD_JSON)
def test_odd_json_is_the_servers_fault(body, headers):
    reply = Reply("OK", body, headers=headers)
    with pytest.raises(RequestFailed, match="cannot be read"):
        _run(V2OverRest("here", raw=True).predict("m", "", {"x": ROW}, None, ()), reply)


@pytest.mark.parametrize("said", [b"", b"{}", b'{"name": "m", "ready": true}', b'{"ready": false}'])
def test_readiness_may_stand_in_the_body(said):
    replies = (Reply("OK", said), Reply("OK", b"{}"), Reply("OK"))
    (found,) = _run(V2OverRest("here", raw=False).status("m"), *replies)
    assert found.state == ("LOADING" if b"false" in said else "AVAILABLE")


def test_what_a_proxy_or_a_starting_server_says_decides_nothing_about_the_protocol():
    with connect("localhost:1", protocol="auto") as client:
        for _ in range(2):
            with pytest.raises(RequestFailed, match="UNAVAILABLE"):
                _run(client._api.status("m"), Reply("UNAVAILABLE", said="starting"))
        found = messages.GetModelStatusResponse()
        found.model_version_status.add(version=1, state=30)
        answer = Reply("OK", found.SerializeToString())
        assert _run(client._api.status("m"), Reply("UNIMPLEMENTED"), answer)[0].version == 1
        assert _run(client._api.status("m"), answer)[0].version == 1  # it is known now
