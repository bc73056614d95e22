"""The Open Inference Protocol over REST (/v2/models/...): JSON, and its binary data extension."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

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

# Bytes of JSON before the binary data, of a request and of an answer.
HEADER = "inference-header-content-length"


class V2OverRest(V2):
    def alive(self) -> Request:
        return Request("/v2/health/live")

    def _readiness(self, model: str) -> Request:
        return Request(f"{_path(model, None)}/ready" if model else "/v2/health/ready")

    def _is_ready(self, body: bytes) -> bool:
        said = json.loads(body) if body.strip() else {}  # most servers say it by the status alone
        return not (isinstance(said, dict) and said.get("ready") is False)

    def _description(self, model: str, version: int | None) -> Request:
        return Request(_path(model, version))

    def _described(self, body: bytes) -> Described:
        answer = json.loads(body)
        return Described(
            str(answer.get("name", "")),
            [str(one) for one in answer.get("versions") or []],
            _specs(answer.get("inputs") or []),
            _specs(answer.get("outputs") or []),
        )

    def _written(
        self, model: str, inputs: Mapping[str, Array], version: int | None, outputs: Sequence[str]
    ) -> Request:
        body, headers = infer_body(inputs, outputs, raw=self._raw)
        return Request(f"{_path(model, version)}/infer", body, headers)

    def _read(self, body: bytes, reply: Reply) -> Answer:
        text, binary = body, b""
        if HEADER in reply.headers:
            length = int(reply.headers[HEADER])
            if not 0 <= length <= len(body):
                raise ValueError(f"{length} bytes of JSON in an answer of {len(body)}")
            text, binary = body[:length], body[length:]
        answer = json.loads(text)
        outputs, at = {}, 0
        for one in answer["outputs"]:
            datatype, shape = str(one["datatype"]), [int(size) for size in one["shape"]]
            size = (one.get("parameters") or {}).get("binary_data_size")
            if size is None:
                outputs[str(one["name"])] = from_values(_flat(one["data"], len(shape)), datatype, shape)
                continue
            if not 0 <= int(size) <= len(binary) - at:
                raise ValueError(f"{size} bytes of binary data of {len(binary) - at} left")
            outputs[str(one["name"])] = from_raw(binary[at : at + int(size)], datatype, shape)
            at += int(size)
        return Answer(outputs, number_of(str(answer.get("model_version") or "")))


def infer_body(
    inputs: Mapping[str, Array], outputs: Sequence[str] = (), *, raw: bool = False
) -> tuple[bytes, dict[str, str]]:
    """The body of an inference and its headers; raw: with the binary data extension, for answers too.

    Raises UsageError for what JSON cannot hold.
    """
    listed, binary = [], []
    for name, given in inputs.items():
        array = np.asarray(given)
        datatype = datatype_of(array)
        one: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if raw:
            binary.append(to_raw(array, datatype))
            one["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            one["data"] = _data(name, array, datatype)
        listed.append(one)
    request: dict[str, Any] = {"inputs": listed}
    if outputs:
        # Triton answers outputs that are named with JSON unless each says otherwise.
        how = {"parameters": {"binary_data": True}} if raw else {}
        request["outputs"] = [{"name": name, **how} for name in outputs]
    if not raw:
        return json.dumps(request).encode(), {"content-type": "application/json"}
    request["parameters"] = {"binary_data_output": True}
    text = json.dumps(request).encode()
    headers = {"content-type": "application/octet-stream", HEADER: str(len(text))}
    return b"".join((text, *binary)), headers


def _data(name: str, array: Array, datatype: str) -> list[Any]:
    if datatype == BYTES:
        try:
            return [item.decode() for item in texts(array)]
        except UnicodeDecodeError as error:
            raise UsageError(
                f"input {name}: JSON holds text, and these bytes are none",
                action="give --contents raw, or --transport grpc",
            ) from error
    if array.dtype.kind in "fV":
        # The shortest decimal of a float32 is half as long as that of the same double.
        numbers = [float(str(item)) for item in array.ravel()]
        if not np.isfinite(numbers).all():
            raise UsageError(
                f"input {name}: JSON has no NaN and no infinity",
                action="give --contents raw, or --transport grpc",
            )
        return numbers
    return list(array.ravel().tolist())


def _flat(data: Any, rank: int) -> list[Any]:
    """Elements in order: servers may nest them as the shape does, or not."""
    for _ in range(rank - 1):
        if not data or not isinstance(data[0], list):
            break
        if not all(isinstance(part, list) for part in data):
            raise ValueError("lists of different depths")
        data = [item for part in data for item in part]
    if not isinstance(data, list):
        raise ValueError("data is not a list")
    return data


def _specs(listed: Any) -> dict[str, Any]:
    return {
        str(one["name"]): spec(str(one["datatype"]), [int(size) for size in one["shape"]]) for one in listed
    }


def _path(model: str, version: int | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"
