"""A stand-in for a model server: TensorFlow Serving's API over a tiny classifier, with faults on demand.

It is not one of slipway's servers; tests use it for what a healthy server never does. Eight numbers in,
three scores out.
"""

from __future__ import annotations

import base64
import gzip
import json
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from slipway_client import messages
from slipway_client.dtypes import DataType
from slipway_client.requests import FixedRequest, write

FEATURES, CLASSES = 8, 3
WEIGHTS = np.random.default_rng(3).standard_normal((FEATURES, CLASSES)).astype(np.float32)
PREDICT, CLASSIFY = "tensorflow/serving/predict", "tensorflow/serving/classify"


def scores_of(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows.astype(np.float32) @ WEIGHTS)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def fixed_requests(count: int = 12, *, answers: bool = True, labels: bool = True) -> list[FixedRequest]:
    """Requests with the right answers; labels are what the classifier says, so its accuracy is 1."""
    rows = np.random.default_rng(5).standard_normal((count, FEATURES)).astype(np.float32)
    out = []
    for row in rows:
        scores = scores_of(row[None])
        out.append(
            FixedRequest(
                "predict",
                "predict_images",
                {"images": row[None]},
                expected={"scores": scores} if answers else None,
                labels=(int(scores.argmax()),) if labels else None,
            )
        )
    for row in rows[:3]:
        scores = scores_of(row[None])
        order = np.argsort(-scores, axis=1)
        classes = np.array([[str(number).encode() for number in one] for one in order], dtype=object)
        best = np.take_along_axis(scores, order, axis=1)
        out.append(
            FixedRequest(
                "classify",
                "serving_default",
                examples=({"x": row},),
                expected={"classes": classes, "scores": best} if answers else None,
                labels=(int(order[0, 0]),) if labels else None,
            )
        )
    return out


def requests_file(folder: Path, **changes: Any) -> Path:
    path = folder / "requests.jsonl"
    write(path, fixed_requests(**changes))
    return path


@dataclass
class Behaviour:
    """What is wrong with the stand-in; the defaults are a server with nothing wrong."""

    model: str = "mnist"
    version: int = 1
    beside: Behaviour | None = None  # another model in the same server
    state: str = "AVAILABLE"
    state_error: str = ""
    off_by: float = 0.0  # added to every score of Predict
    drift: float = 0.0  # added to them once more with every request
    classify_off_by: float = 0.0
    rest_off_by: float = 0.0
    results_key: str = "results"  # as TensorFlow Serving's util/json_tensor_test.cc has it
    fail_with: grpc.StatusCode | None = None  # for Predict and Classify
    fail_every: int = 1  # every n-th request
    hang: threading.Event | None = None  # Predict and Classify wait for it
    token: str = ""  # what a bearer must have; the refusal repeats what came instead
    signatures: dict[str, tuple[str, str, str]] = field(
        default_factory=lambda: {
            "predict_images": (PREDICT, "images", "scores"),
            "serving_default": (CLASSIFY, "inputs", "scores"),
        }
    )


@dataclass(frozen=True)
class ServerTls:
    """What a server proves itself with; client_ca: it asks its clients for a certificate of that CA."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def for_grpc(self) -> Any:
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        ca = self.client_ca.read_bytes() if self.client_ca else None
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)

    def for_rest(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.client_ca)
        return context


class StandIn:
    """Both ports, as long as the block runs. requests: how many Predict and Classify calls came.

    connections: the far ends that asked over REST. encodings: of the bodies that came over REST.
    hosts: whom requests were for, by the header Host and by gRPC's :authority.
    """

    def __init__(self, behaviour: Behaviour | None = None, *, tls: ServerTls | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.requests = 0
        self.connections: set[tuple[str, int]] = set()
        self.encodings: list[str | None] = []
        self.hosts: list[str] = []
        self._counting = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=16)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)], interceptors=[_Door(self)])
        self._server.add_generic_rpc_handlers(_handlers(self))
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        if tls is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", tls.for_grpc())
            self._http.socket = tls.for_rest().wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._http.daemon_threads = True
        self.rest_port = self._http.server_address[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def rest(self) -> str:
        return f"127.0.0.1:{self.rest_port}"

    def __enter__(self) -> StandIn:
        self._server.start()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.behaviour.hang is not None:
            self.behaviour.hang.set()
        self._server.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()
        self._pool.shutdown(wait=True)

    def of(self, model: str) -> Behaviour:
        """How a model behaves; one that is not there is told from its name, which is another's."""
        beside = self.behaviour.beside
        return beside if beside is not None and beside.model == model else self.behaviour

    def trouble(self) -> grpc.StatusCode | None:
        """Count a request; wait or fail as the behaviour says."""
        with self._counting:
            self.requests += 1
            number = self.requests
        if self.behaviour.hang is not None:
            self.behaviour.hang.wait(30)
        if self.behaviour.fail_with is not None and number % self.behaviour.fail_every == 0:
            return self.behaviour.fail_with
        return None

    def classified(self, rows: np.ndarray, off_by: float) -> list[list[tuple[str, float]]]:
        scores = scores_of(rows) + np.float32(off_by)
        return [
            [(str(place), float(row[place])) for place in np.argsort(-row, kind="stable")] for row in scores
        ]


class _Door(grpc.ServerInterceptor):
    """Lets nobody in without the token, if there is one."""

    def __init__(self, own: StandIn) -> None:
        self._own = own

    def intercept_service(self, continuation: Any, call: Any) -> Any:
        token = self._own.behaviour.token
        given = dict(call.invocation_metadata).get("authorization", "")
        if not token or given == f"Bearer {token}":
            return continuation(call)

        def refuse(_request: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not a token: {given.partition(' ')[2]}")

        return grpc.unary_unary_rpc_method_handler(refuse)


def _handlers(own: StandIn) -> list[Any]:
    """TensorFlow Serving's two services."""
    services = {
        "PredictionService": {
            "GetModelMetadata": (_Predictions(own).GetModelMetadata, messages.GetModelMetadataRequest),
            "Predict": (_Predictions(own).Predict, messages.PredictRequest),
            "Classify": (_Predictions(own).Classify, messages.ClassificationRequest),
        },
        "ModelService": {"GetModelStatus": (_Models(own).GetModelStatus, messages.GetModelStatusRequest)},
    }
    return [
        grpc.method_handlers_generic_handler(
            f"tensorflow.serving.{service}",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    answer,
                    request_deserializer=request.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (answer, request) in methods.items()
            },
        )
        for service, methods in services.items()
    ]


def _not_found(context: Any, model: str) -> None:
    context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({model})")


class _Models:
    def __init__(self, own: StandIn) -> None:
        self._own = own

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        self._own.hosts.append(context._rpc_event.call_details.host.decode())  # grpcio tells it nowhere else
        behaviour = self._own.of(request.model_spec.name)
        if request.model_spec.name != behaviour.model:
            _not_found(context, request.model_spec.name)
        answer = messages.GetModelStatusResponse()
        one = answer.model_version_status.add(version=behaviour.version)
        one.state = messages.ModelVersionStatus.State.Value(behaviour.state)
        one.status.error_message = behaviour.state_error
        return answer


class _Predictions:
    def __init__(self, own: StandIn) -> None:
        self._own = own

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        behaviour = self._own.of(request.model_spec.name)
        if request.model_spec.name != behaviour.model:
            _not_found(context, request.model_spec.name)
        answer = messages.GetModelMetadataResponse()
        answer.model_spec.name = behaviour.model
        answer.model_spec.version.value = behaviour.version
        answer.metadata["signature_def"].Pack(_signature_map(behaviour))
        return answer

    def Predict(self, request: Any, context: Any) -> Any:
        behaviour = self._own.of(request.model_spec.name)
        if request.model_spec.name != behaviour.model:
            _not_found(context, request.model_spec.name)
        code = self._own.trouble()
        if code is not None:
            context.abort(code, "the stand-in was told to fail")
        signature = behaviour.signatures.get(request.model_spec.signature_name)
        if signature is None:
            name = request.model_spec.signature_name
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature name: "{name}" not found')
            raise AssertionError("abort has raised")
        tensor = request.inputs[signature[1]]
        rows = np.frombuffer(tensor.tensor_content, np.float32).reshape(
            [d.size for d in tensor.tensor_shape.dim]
        )
        scores = scores_of(rows) + np.float32(behaviour.off_by + behaviour.drift * self._own.requests)
        answer = messages.PredictResponse()
        answer.model_spec.CopyFrom(request.model_spec)
        answer.model_spec.version.value = behaviour.version
        out = answer.outputs[signature[2]]
        out.dtype = DataType.DT_FLOAT
        for size in scores.shape:
            out.tensor_shape.dim.add().size = size
        out.float_val.extend(scores.ravel().tolist())
        return answer

    def Classify(self, request: Any, context: Any) -> Any:
        behaviour = self._own.of(request.model_spec.name)
        code = self._own.trouble()
        if code is not None:
            context.abort(code, "the stand-in was told to fail")
        examples = request.input.example_list.examples
        rows = np.array([one.features.feature["x"].float_list.value for one in examples], np.float32)
        answer = messages.ClassificationResponse()
        answer.model_spec.name = behaviour.model
        answer.model_spec.version.value = behaviour.version
        for row in self._own.classified(rows, behaviour.classify_off_by):
            one = answer.result.classifications.add()
            for label, score in row:
                one.classes.add(label=label, score=score)
        return answer


def _signature_map(behaviour: Behaviour) -> Any:
    out = messages.SignatureDefMap()
    for name, (method, given, answer) in behaviour.signatures.items():
        one = out.signature_def[name]
        one.method_name = method
        wanted = one.inputs[given]
        if method == PREDICT:
            wanted.dtype = DataType.DT_FLOAT
            wanted.tensor_shape.dim.add().size = -1
            wanted.tensor_shape.dim.add().size = FEATURES
        else:
            wanted.dtype = DataType.DT_STRING
            wanted.tensor_shape.dim.add().size = -1
        one.outputs[answer].dtype = DataType.DT_FLOAT
        one.outputs[answer].tensor_shape.unknown_rank = True
    return out


def _handler(own: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # header and body in one segment, or each answer waits for a delayed ACK

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def _answer(self, code: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                data = gzip.compress(data)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refused(self) -> bool:
            own.connections.add(self.client_address)
            own.hosts.append(self.headers["Host"])
            token, given = own.behaviour.token, self.headers.get("Authorization", "")
            refused = bool(token) and given != f"Bearer {token}"
            if refused:
                self._answer(401, {"error": f"not a token: {given.partition(' ')[2]}"})
            return refused

        def do_GET(self) -> None:
            if self._refused():
                return
            if not self.path.startswith("/v1/models/"):  # as when somebody asks what this port speaks
                self._answer(404, {"error": f"Malformed request: GET {self.path}"})
                return
            behaviour = own.of(self.path.split("/")[3].partition(":")[0])
            base = f"/v1/models/{behaviour.model}"
            if self.path == base:
                status = {"error_code": "OK", "error_message": behaviour.state_error}
                one = {"version": str(behaviour.version), "state": behaviour.state, "status": status}
                self._answer(200, {"model_version_status": [one]})
            elif self.path == f"{base}/metadata":
                listed = {
                    name: {
                        "inputs": {given: _info(method == PREDICT)},
                        "outputs": {answer: _info(True)},
                        "method_name": method,
                    }
                    for name, (method, given, answer) in behaviour.signatures.items()
                }
                spec = {"name": behaviour.model, "signature_name": "", "version": str(behaviour.version)}
                metadata = {"signature_def": {"signature_def": listed}}
                self._answer(200, {"model_spec": spec, "metadata": metadata})
            else:
                self._answer(404, {"error": "Servable not found for request"})

        def do_POST(self) -> None:
            behaviour = own.of(self.path.split("/")[3].partition(":")[0])
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if self._refused():
                return
            own.encodings.append(self.headers.get("Content-Encoding"))
            body = json.loads(gzip.decompress(raw) if own.encodings[-1] == "gzip" else raw)
            code = own.trouble()
            if code is not None:
                self._answer(503, {"error": "the stand-in was told to fail"})
            elif self.path.endswith(":predict"):
                rows = np.array(next(iter(body["inputs"].values())), np.float32)
                scores = scores_of(rows) + np.float32(behaviour.rest_off_by)
                self._answer(200, {"outputs": scores.tolist()})
            else:
                rows = np.array([one["x"] for one in body["examples"]], np.float32)
                found = own.classified(rows, behaviour.rest_off_by)
                results = [[list(pair) for pair in row] for row in found]
                self._answer(200, {behaviour.results_key: results})

    return Handler


def _info(floats: bool) -> dict[str, Any]:
    dim = [{"size": "-1", "name": ""}]
    if floats:
        dim.append({"size": str(FEATURES), "name": ""})
    dtype = "DT_FLOAT" if floats else "DT_STRING"
    return {"dtype": dtype, "tensor_shape": {"dim": dim, "unknown_rank": False}, "name": "x:0"}


def encoded(raw: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(raw).decode()}


__all__ = ["Behaviour", "StandIn", "encoded", "fixed_requests", "requests_file", "scores_of"]
