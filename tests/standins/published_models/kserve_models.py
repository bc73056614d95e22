"""The tests' KServe: a program that runs in its environment.

usage: kserve_models.py HTTP_PORT GRPC_PORT NAME=WEIGHTS...
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Classifier(Model):
    """softmax(rows @ weights)."""

    def __init__(self, name: str, weights: np.ndarray) -> None:
        super().__init__(name)
        self._weights = weights
        self.ready = True

    def predict(self, payload: InferRequest, *_args: Any, **_options: Any) -> InferResponse:
        powers = np.exp(payload.inputs[0].as_numpy() @ self._weights)
        scores = np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
        return _answer(payload, {"scores": ("FP32", scores)})


class Echo(Model):
    """Answers with what it is given."""

    def __init__(self) -> None:
        super().__init__("echo")
        self.ready = True

    def predict(self, payload: InferRequest, *_args: Any, **_options: Any) -> InferResponse:
        return _answer(payload, {one.name: (one.datatype, one.as_numpy()) for one in payload.inputs})


def _answer(payload: InferRequest, arrays: dict[str, tuple[str, np.ndarray]]) -> InferResponse:
    outputs = []
    for name, (datatype, array) in arrays.items():
        output = InferOutput(name, list(array.shape), datatype)
        # KServe has no FP16 in JSON, and fails on arrays that are given to InferOutput itself.
        output.set_data_from_numpy(array, binary_data=datatype == "FP16")
        outputs.append(output)
    return InferResponse(
        response_id="",
        model_name=payload.model_name,
        infer_outputs=outputs,
        use_binary_outputs=payload.use_binary_outputs,
    )


if __name__ == "__main__":
    http_port, grpc_port, *given = sys.argv[1:]
    models = [Classifier(name, np.load(file)) for name, _, file in (one.partition("=") for one in given)]
    server = ModelServer(http_port=int(http_port), grpc_port=int(grpc_port), workers=1)
    server.start([*models, Echo()])
