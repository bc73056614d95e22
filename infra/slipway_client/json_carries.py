"""What TensorFlow Serving's REST API cannot carry, by its rules of JSON (util/json_tensor.cc)."""

from __future__ import annotations

from slipway_client.client import Answer, Signature
from slipway_client.dtypes import NAMES, NUMPY
from slipway_client.json_values import Array, dtype_of
from slipway_client.requests import FixedRequest

_CARRIED = {
    *("float32", "float64", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"),
}


def not_in_json(request: FixedRequest, signature: Signature, answer: Answer) -> str:
    """Why a request cannot be asked over REST, or its answer not be told; empty if JSON carries both.

    answer: the one over gRPC. The servers' JSON has no half, bfloat16, complex or uint16 numbers, takes every
    input a signature has and at least one, loses the sizes behind an empty one, and writes a string as text
    unless the output's name ends with _bytes.
    """
    if request.method != "predict":
        return ""
    if not signature.inputs:
        return "REST takes no request without inputs"
    if left := sorted(set(signature.inputs) - set(request.inputs)):
        return f"REST takes no request without input {left[0]}, which has a default"
    for key, array in sorted(request.inputs.items()):
        if why := _no_array(array):
            return f"JSON cannot carry {why} (input {key})"
    for key, array in sorted(answer.outputs.items()):
        why = _no_array(array)
        if not why and dtype_of(array) == "string" and not key.endswith("_bytes") and not _is_text(array):
            why = "bytes that are no text"
        if why:
            return f"JSON cannot carry {why} (output {key})"
    return ""


def _no_array(array: Array) -> str:
    dtype = dtype_of(array)
    if dtype not in _CARRIED:
        return NAMES[NUMPY[dtype]].removeprefix("DT_").lower() if dtype in NUMPY else dtype
    if not array.size and 0 in array.shape[:-1]:
        return f"the shape {list(array.shape)}"
    return ""


def _is_text(array: Array) -> bool:
    for item in array.ravel().tolist():
        try:
            item.decode()
        except UnicodeDecodeError:
            return False
    return True
