"""The Open Inference Protocol over gRPC: inference.GRPCInferenceService."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slipway_client import messages
from slipway_client.errors import UsageError
from slipway_client.interface import Answer, Reply, Request
from slipway_client.json_values import Array
from slipway_client.v2 import (
    BYTES,
    V2,
    Described,
    datatype_of,
    from_raw,
    from_values,
    number_of,
    spec,
    texts,
    to_raw,
)

Message = Any  # protobuf's classes are made at run time

# A datatype's field in InferTensorContents; FP16 and BF16 are written raw only.
FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class V2OverGrpc(V2):
    def alive(self) -> Request:
        return _asking("ServerLive", messages.ServerLiveRequest())

    def _readiness(self, model: str) -> Request:
        if model:
            return _asking("ModelReady", messages.ModelReadyRequest(name=model))
        return _asking("ServerReady", messages.ServerReadyRequest())

    def _is_ready(self, body: bytes) -> bool:
        return bool(messages.ModelReadyResponse.FromString(body).ready)  # the server's is written alike

    def _description(self, model: str, version: int | None) -> Request:
        return _asking("ModelMetadata", messages.ModelMetadataRequest(name=model, version=_word(version)))

    def _described(self, body: bytes) -> Described:
        answer = messages.ModelMetadataResponse.FromString(body)
        return Described(
            answer.name,
            list(answer.versions),
            {one.name: spec(one.datatype, one.shape) for one in answer.inputs},
            {one.name: spec(one.datatype, one.shape) for one in answer.outputs},
        )

    def _written(
        self, model: str, inputs: Mapping[str, Array], version: int | None, outputs: Sequence[str]
    ) -> Request:
        request = infer_request(model, inputs, version=version, outputs=outputs, raw=self._raw)
        return _asking("ModelInfer", request)

    def _read(self, body: bytes, _reply: Reply) -> Answer:
        answer = messages.ModelInferResponse.FromString(body)
        raw = list(answer.raw_output_contents)
        if raw and len(raw) != len(answer.outputs):
            raise ValueError(f"{len(raw)} raw contents for {len(answer.outputs)} outputs")
        outputs = {}
        for place, one in enumerate(answer.outputs):
            if raw:
                outputs[one.name] = from_raw(raw[place], one.datatype, list(one.shape))
            else:
                values = getattr(one.contents, FIELDS.get(one.datatype, ""), None)
                if values is None:
                    raise ValueError(f"{one.datatype} without raw contents")
                outputs[one.name] = from_values(values, one.datatype, list(one.shape))
        return Answer(outputs, number_of(answer.model_version))


def infer_request(
    model: str,
    inputs: Mapping[str, Array],
    *,
    version: int | None = None,
    outputs: Sequence[str] = (),
    raw: bool = True,
) -> Message:
    """A ModelInferRequest. Raises UsageError for a dtype that cannot be written so."""
    request = messages.ModelInferRequest(model_name=model, model_version=_word(version))
    for name in outputs:
        request.outputs.add(name=name)
    for name, given in inputs.items():
        array = np.asarray(given)
        datatype = datatype_of(array)
        one = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            request.raw_input_contents.append(to_raw(array, datatype))
            continue
        if datatype not in FIELDS:
            raise UsageError(f"input {name}: {datatype} has raw contents only", action="leave --contents out")
        values = texts(array) if datatype == BYTES else array.ravel().tolist()
        getattr(one.contents, FIELDS[datatype]).extend(values)
    return request


def _asking(method: str, request: Message) -> Request:
    return Request(f"/inference.GRPCInferenceService/{method}", request.SerializeToString())


def _word(version: int | None) -> str:
    return "" if version is None else str(version)
