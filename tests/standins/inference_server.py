"""A stand-in for servers of the Open Inference Protocol, over gRPC and REST, with their differences on demand.

It has one model, the classifier of model_server.py: eight numbers in, three scores out.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from slipway_client import messages

from tests.standins.model_server import CLASSES, FEATURES, scores_of

HEADER = "Inference-Header-Content-Length"


@dataclass
class Conduct:
    """How the server does what the protocol leaves open.

    ready: of the model. unknown_is_unready: it calls a model it does not have not ready, as Triton does.
    raw: it answers with bytes where it could answer with values. nested: REST's data has the shape's lists.
    declared: its metadata tells inputs and outputs. version: of the model, in its own words.
    """

    ready: bool = True
    unknown_is_unready: bool = False
    raw: bool = False
    nested: bool = False
    declared: bool = True
    version: str = "3"
    off_by: float = 0.0


class InferenceStandIn:
    """Both ports, as long as the block runs.

    headers: of the last inference over REST, lower case. typed: whether the last inference over gRPC came with
    typed contents. binary: whether that over REST was answered with binary data.
    """

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.headers: dict[str, str] = {}
        self.typed = False
        self.binary = False
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                getattr(self, name), request_deserializer=kind.FromString, response_serializer=_bytes
            )
            for name, kind in _REQUESTS.items()
        }
        handler = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
        self._server.add_generic_rpc_handlers((handler,))
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.rest = f"127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> InferenceStandIn:
        self._server.start()
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
        self._pool.shutdown()

    def ServerLive(self, _request: Any, _context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    def ServerReady(self, _request: Any, _context: Any) -> Any:
        return messages.ServerReadyResponse(ready=self.conduct.ready)

    def ModelReady(self, request: Any, context: Any) -> Any:
        if request.name != "mnist" and not self.conduct.unknown_is_unready:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Model {request.name} not found")
        return messages.ModelReadyResponse(ready=self.conduct.ready and request.name == "mnist")

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        if request.name != "mnist":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model: '{request.name}' is not found")
        answer = messages.ModelMetadataResponse(name="mnist", versions=[self.conduct.version])
        if self.conduct.declared:
            answer.inputs.add(name="images", datatype="FP32", shape=[-1, FEATURES])
            answer.outputs.add(name="scores", datatype="FP32", shape=[-1, CLASSES])
        return answer

    def ModelInfer(self, request: Any, _context: Any) -> Any:
        (given,) = request.inputs
        self.typed = not request.raw_input_contents
        values = (
            np.array(given.contents.fp32_contents, np.float32)
            if self.typed
            else np.frombuffer(request.raw_input_contents[0], np.float32)
        )
        scores = scores_of(values.reshape(given.shape)) + np.float32(self.conduct.off_by)
        answer = messages.ModelInferResponse(model_name="mnist", model_version=self.conduct.version)
        one = answer.outputs.add(name="scores", datatype="FP32", shape=scores.shape)
        if self.conduct.raw:
            answer.raw_output_contents.append(scores.tobytes())
        else:
            one.contents.fp32_contents.extend(scores.ravel().tolist())
        return answer


_REQUESTS = {
    "ServerLive": messages.ServerLiveRequest,
    "ServerReady": messages.ServerReadyRequest,
    "ModelReady": messages.ModelReadyRequest,
    "ModelMetadata": messages.ModelMetadataRequest,
    "ModelInfer": messages.ModelInferRequest,
}


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _handler(own: InferenceStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def _answer(self, code: int, body: bytes, **headers: str) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            conduct = own.conduct
            if self.path == "/v2/health/live":
                self._answer(200, b"")
            elif self.path == "/v2/health/ready" or self.path == "/v2/models/mnist/ready":
                self._answer(200 if conduct.ready else 503, b"")
            elif self.path == "/v2/models/mnist":
                answer = own.ModelMetadata(messages.ModelMetadataRequest(name="mnist"), None)
                told = {
                    kind: [
                        {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
                        for one in listed
                    ]
                    for kind, listed in (("inputs", answer.inputs), ("outputs", answer.outputs))
                }
                body = {"name": "mnist", "versions": [conduct.version], "platform": "", **told}
                self._answer(200, json.dumps(body).encode())
            elif self.path.endswith("/ready") and conduct.unknown_is_unready:
                self._answer(400, b"")
            else:
                self._answer(404, json.dumps({"error": f"Model {self.path} not found"}).encode())

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            own.headers = {name.lower(): value for name, value in self.headers.items()}
            length = int(self.headers.get(HEADER, len(raw)))
            body = json.loads(raw[:length])
            (given,) = body["inputs"]
            values = (
                np.frombuffer(raw[length:], np.float32)
                if length < len(raw)
                else np.array(given["data"], np.float32)
            )
            scores = scores_of(values.reshape(given["shape"])) + np.float32(own.conduct.off_by)
            one: dict[str, Any] = {"name": "scores", "datatype": "FP32", "shape": list(scores.shape)}
            answer = {"model_name": "mnist", "model_version": own.conduct.version, "outputs": [one]}
            # As Triton: for outputs that the request names, what stands beside each name decides.
            named = [one.get("parameters", {}).get("binary_data", False) for one in body.get("outputs", [])]
            own.binary = all(named) if named else body.get("parameters", {}).get("binary_data_output", False)
            if own.binary:
                one["parameters"] = {"binary_data_size": scores.nbytes}
                text = json.dumps(answer).encode()
                self._answer(200, text + scores.tobytes(), **{HEADER.replace("-", "_"): str(len(text))})
                return
            one["data"] = scores.tolist() if own.conduct.nested else scores.ravel().tolist()
            self._answer(200, json.dumps(answer).encode())

    return Handler
