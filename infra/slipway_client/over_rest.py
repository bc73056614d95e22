"""The client over TensorFlow Serving's REST API (/v1/models/...)."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import numpy as np

from slipway_client import client
from slipway_client.client import Answer, Examples, Metadata, Signature, TensorSpec, VersionStatus
from slipway_client.errors import RequestFailed, TimedOut, UsageError
from slipway_client.requests import Array, FixedRequest
from slipway_client.tensors import dtype_named, is_number

# The HTTP codes TensorFlow Serving gives its statuses.
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RestClient(client.Client):
    """The REST port of one server; one kept-alive connection per thread."""

    transport = "rest"

    def __init__(self, server: str, *, timeout: float = 10.0, tls: client.Tls | None = None) -> None:
        super().__init__(server, timeout=timeout, tls=tls)
        self._trust = None if tls is None else tls.context()
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self._opening = threading.Lock()

    def status(self, model: str) -> tuple[VersionStatus, ...]:
        answer = self._ask("GET", _path(model, None), None, model)
        with self._reading("a status"):
            return tuple(
                VersionStatus(
                    int(one["version"]),
                    str(one["state"]),
                    str(one.get("status", {}).get("error_message", "")),
                )
                for one in answer.get("model_version_status", [])
            )

    def metadata(self, model: str, version: int | None = None) -> Metadata:
        answer = self._ask("GET", f"{_path(model, version)}/metadata", None, model)
        with self._reading("metadata"):
            listed = answer["metadata"]["signature_def"]["signature_def"]
            spec = answer["model_spec"]
            return Metadata(
                str(spec.get("name") or model),
                int(spec["version"]) if spec.get("version") else None,
                {name: _signature(name, one) for name, one in listed.items()},
            )

    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> Answer:
        if output_filter:
            raise UsageError("the REST API has no output_filter", action="use --transport grpc")
        wanted = self.metadata(model, version).signature(signature, self.server).outputs
        body = json.dumps(_predict_body(signature, inputs)).encode()
        return self._predicted(self._ask("POST", f"{_path(model, version)}:predict", body, model), wanted)

    def classify(
        self, model: str, signature: str, examples: Examples, *, version: int | None = None
    ) -> Answer:
        body = json.dumps(_examples_body(signature, examples)).encode()
        return self._classified(self._ask("POST", f"{_path(model, version)}:classify", body, model))

    def regress(
        self, model: str, signature: str, examples: Examples, *, version: int | None = None
    ) -> Answer:
        body = json.dumps(_examples_body(signature, examples)).encode()
        return self._regressed(self._ask("POST", f"{_path(model, version)}:regress", body, model))

    def prepare(self, model: str, request: FixedRequest) -> Callable[[], Answer]:
        if request.method == "predict":
            wanted = self.metadata(model).signature(request.signature, self.server).outputs
            body = json.dumps(_predict_body(request.signature, request.inputs)).encode()
            path = f"{_path(model, None)}:predict"
            return lambda: self._predicted(self._ask("POST", path, body, model), wanted)
        body = json.dumps(_examples_body(request.signature, request.examples)).encode()
        path = f"{_path(model, None)}:{request.method}"
        read = self._classified if request.method == "classify" else self._regressed
        return lambda: read(self._ask("POST", path, body, model))

    def close(self) -> None:
        with self._opening:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _predicted(self, answer: Mapping[str, Any], wanted: Mapping[str, TensorSpec]) -> Answer:
        with self._reading("a prediction"):
            outputs = answer["outputs"]
            # The column form leaves the key out where a signature has one output.
            named = {next(iter(wanted)): outputs} if len(wanted) == 1 else outputs
            return Answer({name: _array(named[name], spec) for name, spec in wanted.items() if name in named})

    def _classified(self, answer: Mapping[str, Any]) -> Answer:
        with self._reading("a classification"):
            pairs = [
                [(str(label).encode(), float(score)) for label, score in row] for row in _results(answer)
            ]
            return Answer(client.classification(pairs))

    def _regressed(self, answer: Mapping[str, Any]) -> Answer:
        with self._reading("a regression"):
            return Answer({"outputs": np.array([float(value) for value in _results(answer)], np.float32)})

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Turn a failure to read an answer into an error that blames the server, whatever it sent."""
        try:
            yield
        except KeyError as error:
            raise self.unreadable(f"{what} without {error}") from error
        except (TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
            raise self.unreadable(f"not {what}: {error}") from error

    def _ask(self, verb: str, path: str, body: bytes | None, model: str) -> dict[str, Any]:
        kept = getattr(self._local, "connection", None)
        try:
            code, text = self._send(verb, path, body)
        except (ConnectionError, http.client.HTTPException) as error:
            # A server may close a kept connection at any time; a fresh one decides.
            if kept is None:
                raise self._failed(error) from error
            try:
                code, text = self._send(verb, path, body)
            except (OSError, http.client.HTTPException) as again:
                raise self._failed(again) from again
        except OSError as error:
            raise self._failed(error) from error
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if code == 200 and isinstance(answer, dict):
            return answer
        said = str(answer["error"]) if isinstance(answer, dict) and "error" in answer else ""
        if not said:
            said = text[:300].decode(errors="replace")
        status = _STATUSES.get(code, f"HTTP {code}")
        if status == "DEADLINE_EXCEEDED":
            raise TimedOut("the server gave up on the request", where=self.server, tail=said)
        raise self.refused(status, said, model)

    def _send(self, verb: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            if self._trust is not None:
                connection = http.client.HTTPSConnection(
                    self.host, self.port, timeout=self.timeout, context=self._trust
                )
            else:
                connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
            self._local.connection = connection
            with self._opening:
                self._open.append(connection)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(verb, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except BaseException:
            connection.close()
            self._local.connection = None
            raise

    def _failed(self, error: Exception) -> RequestFailed:
        if isinstance(error, TimeoutError):
            return self.timed_out()
        return self.unreachable(str(error) or type(error).__name__)


def _results(answer: Mapping[str, Any]) -> Any:
    """Servers write "results" (util/json_tensor_test.cc); their REST documentation says "result"."""
    return answer["results"] if "results" in answer else answer["result"]


def _path(model: str, version: int | None) -> str:
    path = f"/v1/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def _predict_body(signature: str, inputs: Mapping[str, Array]) -> dict[str, Any]:
    return {
        "signature_name": signature,
        "inputs": {name: _values(np.asarray(array)) for name, array in inputs.items()},
    }


def _examples_body(signature: str, examples: Examples) -> dict[str, Any]:
    listed = [{name: _values(np.asarray(v)) for name, v in example.items()} for example in examples]
    return {"signature_name": signature, "examples": listed}


def _values(array: Array) -> Any:
    """Nested lists; TensorFlow Serving's JSON reads NaN and Infinity as Python's does."""
    if array.dtype.kind in "OSU":
        return _texts(array.tolist())
    if array.dtype == np.float32:
        # The shortest decimal of a float32 is half as long as that of the same double.
        shortest = np.array([float(str(item)) for item in array.ravel()], dtype=object)
        return shortest.reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        raise UsageError("the REST API has no complex numbers", action="use --transport grpc")
    return array.tolist()


def _texts(nested: Any) -> Any:
    if isinstance(nested, list):
        return [_texts(item) for item in nested]
    raw = nested.encode() if isinstance(nested, str) else nested
    return {"b64": base64.b64encode(raw).decode()}


def _array(nested: Any, spec: TensorSpec) -> Array:
    if nested is None:
        raise TypeError("null")  # numpy would make NaN of it
    if spec.dtype != "string":
        if not is_number(spec.dtype):
            raise ValueError(f"numpy has no {spec.dtype}")  # nor may a server choose one: U999999999
        return np.array(nested, dtype=spec.dtype)
    found = np.array(nested, dtype=object)
    flat = np.empty(found.size, dtype=object)
    flat[:] = [_raw(item) for item in found.ravel()]
    return flat.reshape(found.shape)


def _raw(item: Any) -> bytes:
    if isinstance(item, list):
        raise ValueError("lists of different lengths")  # numpy goes no deeper than they are equal
    return base64.b64decode(item["b64"]) if isinstance(item, dict) else str(item).encode()


def _signature(name: str, one: Mapping[str, Any]) -> Signature:
    method = str(one.get("method_name", ""))
    inputs, outputs = one.get("inputs", {}), one.get("outputs", {})
    return Signature(
        name,
        client.METHODS.get(method, method),
        {key: _tensor(info) for key, info in inputs.items()},
        {key: _tensor(info) for key, info in outputs.items()},
        frozenset(one.get("defaults", {})),
    )


def _tensor(info: Mapping[str, Any]) -> TensorSpec:
    shape = info.get("tensor_shape", {})
    sizes = tuple(int(dim["size"]) for dim in shape.get("dim", []))
    known = None if shape.get("unknown_rank") else tuple(None if size < 0 else size for size in sizes)
    return TensorSpec(dtype_named(str(info.get("dtype", "DT_INVALID"))), known)
