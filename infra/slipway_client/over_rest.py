"""TensorFlow Serving's API over REST (/v1/models/...)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from slipway_client.errors import UsageError
from slipway_client.interface import (
    METHODS,
    Answer,
    Api,
    Examples,
    Metadata,
    Reply,
    Request,
    Signature,
    Steps,
    TensorSpec,
    VersionStatus,
    classification,
    regression,
)
from slipway_client.json_values import Array
from slipway_client.requests import FixedRequest
from slipway_client.tensors import dtype_named, is_number


class TensorFlowOverRest(Api):
    """Requests in the column form: arrays by the names of the inputs."""

    def status(self, model: str) -> Steps[tuple[VersionStatus, ...]]:
        answer = self._read((yield Request(_path(model, None))), model)
        with self.reading("a status"):
            return tuple(
                VersionStatus(
                    int(one["version"]),
                    str(one["state"]),
                    str(one.get("status", {}).get("error_message", "")),
                )
                for one in answer.get("model_version_status", [])
            )

    def metadata(self, model: str, version: int | None) -> Steps[Metadata]:
        answer = self._read((yield Request(f"{_path(model, version)}/metadata")), model)
        with self.reading("metadata"):
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
        version: int | None,
        output_filter: Sequence[str],
    ) -> Steps[Answer]:
        if output_filter:
            raise UsageError("the REST API has no output_filter", action="use --transport grpc")
        metadata = yield from self.metadata(model, version)
        wanted = metadata.signature(signature, self.server).outputs
        request = _asking(f"{_path(model, version)}:predict", _predict_body(signature, inputs))
        return (yield from self._predicted(request, model, wanted))

    def classify(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        request = _asking(f"{_path(model, version)}:classify", _examples_body(signature, examples))
        return (yield from self._classified(request, model))

    def regress(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        request = _asking(f"{_path(model, version)}:regress", _examples_body(signature, examples))
        return (yield from self._regressed(request, model))

    def prepare(self, model: str, request: FixedRequest) -> Steps[Callable[[], Steps[Answer]]]:
        if request.method == "predict":
            metadata = yield from self.metadata(model, None)
            wanted = metadata.signature(request.signature, self.server).outputs
            body = _predict_body(request.signature, request.inputs)
            sent = _asking(f"{_path(model, None)}:predict", body)
            return lambda: self._predicted(sent, model, wanted)
        listed = _examples_body(request.signature, request.examples)
        asked = _asking(f"{_path(model, None)}:{request.method}", listed)
        read = self._classified if request.method == "classify" else self._regressed
        return lambda: read(asked, model)

    def _predicted(self, request: Request, model: str, wanted: Mapping[str, TensorSpec]) -> Steps[Answer]:
        answer = self._read((yield request), model)
        with self.reading("a prediction"):
            outputs = answer["outputs"]
            # The column form leaves the key out where a signature has one output.
            named = {next(iter(wanted)): outputs} if len(wanted) == 1 else outputs
            return Answer({name: _array(named[name], spec) for name, spec in wanted.items() if name in named})

    def _classified(self, request: Request, model: str) -> Steps[Answer]:
        answer = self._read((yield request), model)
        with self.reading("a classification"):
            pairs = [
                [(str(label).encode(), float(score)) for label, score in row] for row in _results(answer)
            ]
            return Answer(classification(pairs))

    def _regressed(self, request: Request, model: str) -> Steps[Answer]:
        answer = self._read((yield request), model)
        with self.reading("a regression"):
            return Answer(regression([float(one) for one in _results(answer)]))

    def _read(self, reply: Reply, model: str) -> dict[str, Any]:
        body = self.accepted(reply, model)
        with self.reading("JSON"):
            answer = json.loads(body)
        if not isinstance(answer, dict):
            raise self.unreadable("not a JSON object")
        return answer


def _results(answer: Mapping[str, Any]) -> Any:
    # Servers write "results" (util/json_tensor_test.cc); their REST documentation says "result".
    return answer["results"] if "results" in answer else answer["result"]


def _asking(path: str, body: object) -> Request:
    return Request(path, json.dumps(body).encode(), {"content-type": "application/json"})


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
        METHODS.get(method, method),
        {key: _tensor(info) for key, info in inputs.items()},
        {key: _tensor(info) for key, info in outputs.items()},
        frozenset(one.get("defaults", {})),
    )


def _tensor(info: Mapping[str, Any]) -> TensorSpec:
    shape = info.get("tensor_shape", {})
    sizes = tuple(int(dim["size"]) for dim in shape.get("dim", []))
    known = None if shape.get("unknown_rank") else tuple(None if size < 0 else size for size in sizes)
    return TensorSpec(dtype_named(str(info.get("dtype", "DT_INVALID"))), known)
