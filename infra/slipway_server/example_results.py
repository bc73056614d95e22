"""What Classify and Regress want of a signature, and their answers from the tensors of a run.

Checks, their order and their texts follow TensorFlow Serving's classifier.cc and regressor.cc.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway_client.dtypes import DataType

from slipway_server import runtime as rt
from slipway_server import session_tensors
from slipway_server.codes import invalid
from slipway_server.session_tensors import Hold

_CLASS_BYTES = 128  # of a class or a value in an answer: its message, its text


def classify_outputs(definition: Any) -> list[str]:
    """The outputs to compute of a SignatureDef. Raises StatusError when it cannot classify."""
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(definition.outputs)}")
    if "inputs" not in definition.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {definition}")
    wanted = [alias for alias in ("classes", "scores") if alias in definition.outputs]
    if not wanted:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {definition}"
        )
    return wanted


def classify(out: Any, results: Mapping[str, rt.Tensor], count: int, hold: Hold) -> None:
    """Fill a ClassificationResult for `count` examples."""
    for alias, dtype in (("classes", DataType.DT_STRING), ("scores", DataType.DT_FLOAT)):
        if alias in results:
            _check_rows(alias, results[alias], dtype, count)
    columns = {alias: tensor.shape[1] for alias, tensor in results.items()}
    if len(set(columns.values())) > 1:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{columns['classes']} vs. {columns['scores']}"
        )
    width = next(iter(columns.values()))
    hold(count * width * _CLASS_BYTES)
    labels = results["classes"].strings() if "classes" in results else None
    scores = _floats(results["scores"]) if "scores" in results else None
    for row in range(count):
        # One allocation a row; adding class by class costs a Python call each.
        line = out.classifications.add()
        for at in range(row * width, (row + 1) * width):
            line.classes.add(
                label=_text(labels[at]) if labels is not None else "",
                score=scores[at] if scores is not None else 0.0,
            )


def regress_outputs(definition: Any) -> list[str]:
    """The output to compute of a SignatureDef. Raises StatusError when it is none of a regression."""
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in definition.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {definition}")
    if "outputs" not in definition.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {definition}")
    return ["outputs"]


def regress(out: Any, results: Mapping[str, rt.Tensor], count: int, hold: Hold) -> None:
    """Fill a RegressionResult for `count` examples."""
    tensor = results["outputs"]
    shape = tensor.shape
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{session_tensors.shape_text(shape)}"
        )
    if shape[0] != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {shape[0]}")
    if tensor.dtype != DataType.DT_FLOAT:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {session_tensors.dtype_name(tensor.dtype)}")
    hold(count * _CLASS_BYTES)
    for value in _floats(tensor):
        out.regressions.add(value=value)


@dataclass(frozen=True)
class Task:
    """One of the APIs over examples. field: of InferenceResult, which holds its answer."""

    field: str
    outputs: Callable[[Any], list[str]]
    fill: Callable[[Any, Mapping[str, rt.Tensor], int, Hold], None]


# By method_name of an InferenceTask
TASKS: Mapping[str, Task] = {
    "tensorflow/serving/classify": Task("classification_result", classify_outputs, classify),
    "tensorflow/serving/regress": Task("regression_result", regress_outputs, regress),
}


def _check_rows(alias: str, tensor: rt.Tensor, dtype: int, count: int) -> None:
    shape = tensor.shape
    if len(shape) != 2:
        raise invalid(
            f"Expected Tensor shape: [batch_size num_classes] but got {session_tensors.shape_text(shape)}"
        )
    if tensor.dtype != dtype:
        raise invalid(
            f"Expected {alias} Tensor of {session_tensors.dtype_name(dtype)}. Got: "
            f"{session_tensors.dtype_name(tensor.dtype)}"
        )
    if shape[0] != count:
        raise invalid(f"Expected {alias} output batch size of {count}. Got: {shape[0]}")


def _floats(tensor: rt.Tensor) -> tuple[float, ...]:
    return struct.unpack(f"<{math.prod(tensor.shape)}f", tensor.content())


def _text(label: bytes) -> str:
    """A class label as text, since protobuf's string fields hold UTF-8 only."""
    return label.decode("utf-8", "replace")
