"""A server that answers something else than it should is told so in one line, whatever it sends."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import pytest
from slipway.model.mnist import idx
from slipway_client import messages
from slipway_client.client import Metadata, Signature, TensorSpec
from slipway_client.compare import difference
from slipway_client.connect import connect
from slipway_client.dtypes import DataType
from slipway_client.errors import RequestFailed, TlsFailed, WrongSignature
from slipway_client.over_grpc import TensorFlowOverGrpc
from slipway_client.tensors import from_proto

ROW = np.zeros((1, 2), np.float32)
INFO = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}], "unknown_rank": False}}
SIGNATURE = {"inputs": {"x": INFO}, "outputs": {"y": INFO}, "method_name": "tensorflow/serving/predict"}
METADATA = {
    "model_spec": {"name": "m", "version": "1"},
    "metadata": {"signature_def": {"signature_def": {"s": SIGNATURE}}},
}


@pytest.fixture
def server():
    """A stand-in that sends the same body for each kind of request, right ones where nothing else is set."""
    bodies = {"metadata": METADATA}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = self.path.rpartition("/m")[2].lstrip("/:") if "/m" in self.path else ""
            body = bodies.get("metadata" if self.path.endswith("/metadata") else kind or "status", {})
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            """Nothing to the terminal."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{http.server_port}", bodies
    http.shutdown()
    http.server_close()


STATUS = [
    [1],
    {"model_version_status": 5},
    {"model_version_status": [5]},
    {"model_version_status": [{}]},
    {"model_version_status": [{"version": "x", "state": "AVAILABLE"}]},
    {"model_version_status": [{"version": 1e400, "state": "AVAILABLE"}]},
    {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": "OK"}]},
    b"[" * 100_000,
    b"\x1b[2J\xff",
]
PREDICTIONS = [
    {},
    {"outputs": {"a": 1}},
    {"outputs": [[1], [2, 3]]},
    {"outputs": "x"},
    {"outputs": None},
    {"outputs": [10**400]},
    b'{"outputs": ' + b"[" * 900 + b"]" * 900 + b"}",
]
CLASSIFICATIONS = [
    {},
    {"results": 5},
    {"results": [5]},
    {"results": [["label"]]},
    {"results": [[["a", "high"]]]},
    {"results": [[["a", 10**400]]]},
    {"results": [[["a", 0.5], ["b", 0.5]], []]},
    {"results": [[["a", 0.5]] * 1000, *([[]] * 1_000_000)]},
]
STRINGS = [
    [["a"], ["b", "c"]],
    [["a", "b"], ["c"], ["d", "e", "f"]],
    [[["a"] * 3000], *([[]] * 3000)],
    [["a"] * 1000, *([[]] * 1_000_000)],
    ["a", []],
    [{"b64": 1}],
    [{}],
]
METADATAS = [
    {},
    {"metadata": []},
    {**METADATA, "model_spec": []},
    {**METADATA, "model_spec": {"version": "x"}},
    {**METADATA, "metadata": {"signature_def": {"signature_def": {"s": 1}}}},
    {**METADATA, "metadata": {"signature_def": {"signature_def": {"s": {"inputs": [1]}}}}},
]


def metadata_of(dtype):
    """Metadata whose one output has this dtype."""
    signature = {**SIGNATURE, "outputs": {"y": {**INFO, "dtype": dtype}}}
    return {**METADATA, "metadata": {"signature_def": {"signature_def": {"s": signature}}}}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *(("status", body) for body in STATUS),
        *(("predict", body) for body in PREDICTIONS),
        *(("classify", body) for body in CLASSIFICATIONS),
        *(("metadata", body) for body in METADATAS),
    ],
)
def test_odd_json_is_the_servers_fault(server, kind, body):
    address, bodies = server
    bodies[kind] = body
    with connect(address, "rest", timeout=60.0) as client:
        ask = {
            "status": lambda: client.status("m"),
            "predict": lambda: client.predict("m", "s", {"x": ROW}),
            "classify": lambda: client.classify("m", "s", [{"x": ROW[0]}]),
            "metadata": lambda: client.metadata("m"),
        }[kind]
        with pytest.raises(RequestFailed) as failed:
            ask()
    assert failed.value.where == address
    assert all(line.isprintable() for line in failed.value.lines())


@pytest.mark.parametrize(
    ("dtype", "outputs"),
    [*(("DT_STRING", outputs) for outputs in STRINGS), ("U999999999999", ["a"]), ("DT_RESOURCE", [1])],
)
def test_odd_outputs_of_other_types_are_the_servers_fault(server, dtype, outputs):
    address, bodies = server
    bodies["metadata"], bodies["predict"] = metadata_of(dtype), {"outputs": outputs}
    with connect(address, "rest", timeout=60.0) as client, pytest.raises(RequestFailed, match="a prediction"):
        client.predict("m", "s", {"x": ROW})


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        ("a", b"a"),
        ([], []),
        ([[], []], [[], []]),
        ([["a"], [{"b64": "Yg=="}]], [[b"a"], [b"b"]]),
    ],
)
def test_texts_are_read_in_their_own_shape(server, outputs, wanted):
    address, bodies = server
    bodies["metadata"], bodies["predict"] = metadata_of("DT_STRING"), {"outputs": outputs}
    with connect(address, "rest", timeout=60.0) as client:
        assert client.predict("m", "s", {"x": ROW}).outputs["y"].tolist() == wanted


@pytest.fixture
def odd_grpc():
    """A stand-in over gRPC that sends the message set for a method."""
    answers: dict[str, Any] = {}

    def handler(name):
        return grpc.unary_unary_rpc_method_handler(lambda *_: answers[name].SerializeToString())

    services = {
        "tensorflow.serving.ModelService": ("GetModelStatus",),
        "tensorflow.serving.PredictionService": ("GetModelMetadata", "Predict", "Classify"),
    }
    with ThreadPoolExecutor(2) as pool:
        own = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        for service, methods in services.items():
            handlers = {name: handler(name) for name in methods}
            own.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = own.add_insecure_port("127.0.0.1:0")
        own.start()
        yield f"127.0.0.1:{port}", answers
        own.stop(0).wait()


def _damaged_metadata():
    answer = messages.GetModelMetadataResponse()
    packed = answer.metadata["signature_def"]
    packed.Pack(messages.SignatureDefMap())
    packed.value = b"\xff\xff"
    return answer


def _unequal_rows():
    answer = messages.ClassificationResponse()
    for width in (5000, *([0] * 200_000)):
        row = answer.result.classifications.add()
        for _ in range(width):
            row.classes.add()
    return answer


def _prediction(**tensor):
    answer = messages.PredictResponse()
    answer.outputs["y"].CopyFrom(messages.TensorProto(**tensor))
    answer.outputs["y"].tensor_shape.dim.add(size=1)
    return answer


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("GetModelMetadata", _damaged_metadata()),
        ("GetModelMetadata", messages.GetModelMetadataResponse()),
        ("Classify", _unequal_rows()),
        ("Predict", _prediction(dtype=DataType.DT_HALF, half_val=[1 << 20])),
        ("Predict", _prediction(dtype=DataType.DT_HALF, half_val=[-1])),
        ("Predict", _prediction(dtype=DataType.DT_RESOURCE)),
        ("Predict", _prediction(dtype=DataType.DT_FLOAT, tensor_content=b"123")),
        ("Predict", _prediction(dtype=77)),
    ],
)
def test_odd_messages_are_the_servers_fault(odd_grpc, name, answer):
    address, answers = odd_grpc
    answers[name] = answer
    with connect(address, "grpc", timeout=20.0) as client:
        ask = {
            "GetModelMetadata": lambda: client.metadata("m"),
            "Classify": lambda: client.classify("m", "s", [{"x": ROW[0]}]),
            "Predict": lambda: client.predict("m", "s", {"x": ROW}),
        }[name]
        with pytest.raises(RequestFailed, match=r"the answer cannot be read: \S") as failed:
            ask()
    assert failed.value.where == address


def test_a_state_this_client_does_not_know_is_told_by_its_number(odd_grpc):
    address, answers = odd_grpc
    answers["GetModelStatus"] = messages.GetModelStatusResponse()
    answers["GetModelStatus"].model_version_status.add(version=1, state=35)
    with connect(address, "grpc", timeout=60.0) as client:
        assert client.status("m")[0].state == "35"


STEERING = "\x1b[2J\nall is well\r"
SPEC = TensorSpec("float32", (None, 3))
IMAGES = Signature(STEERING, "predict", {"x": SPEC}, {})
MODEL = Metadata(STEERING, 1, {STEERING: IMAGES, f"{STEERING}2": IMAGES})


@pytest.mark.parametrize(
    "ask",
    [
        lambda: MODEL.signature("other", "here"),
        lambda: idx.image_signature(MODEL, "here"),
    ],
)
def test_no_name_of_a_signature_steers_the_terminal(ask):
    with pytest.raises(WrongSignature) as failed:
        ask()
    assert all(line.isprintable() for line in failed.value.lines())


def test_nothing_a_server_is_quoted_with_steers_the_terminal():
    certificate = TlsFailed("not accepted", where="here", action=f"ask by a name it has: {STEERING}")
    api = TensorFlowOverGrpc("localhost:1")
    for error in (certificate, api.unreadable(STEERING), api.refused(STEERING, STEERING, "m")):
        assert all(line.isprintable() for line in error.lines())
    assert difference({"y": ROW}, {STEERING: ROW}, 0.0).isprintable()


def test_the_same_bodies_would_be_read_were_they_right(server):
    address, bodies = server
    bodies["status"] = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
    bodies["predict"] = {"outputs": [[0.5, 1.5]]}
    bodies["classify"] = {"results": [[["a", 0.5]]]}
    with connect(address, "rest", timeout=60.0) as client:
        assert client.status("m")[0].state == "AVAILABLE"
        assert client.predict("m", "s", {"x": ROW}).outputs["y"].tolist() == [[0.5, 1.5]]
        assert client.classify("m", "s", [{"x": ROW[0]}]).outputs["classes"].tolist() == [[b"a"]]


@pytest.mark.parametrize("shape", [[1 << 40], [1 << 62, 1 << 62], [-1], [0, 1 << 62, 1 << 62]])
def test_a_tensor_may_not_claim_more_than_a_message_holds(shape):
    proto = messages.TensorProto(dtype=DataType.DT_FLOAT, float_val=[1.0] if shape[0] else [])
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(ValueError, match=r"."):
        from_proto(proto)
