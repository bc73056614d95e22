"""What the tests' Triton serves, by its Python backend: weights.npy beside this file, or what it is given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, (HERE / "packages").read_text())  # the backend's own Python knows no environment

import numpy as np  # noqa: E402  # from there
import triton_python_backend_utils as backend  # noqa: E402  # from there


class TritonPythonModel:
    """softmax(rows @ weights), or an echo where there are no weights."""

    def initialize(self, _arguments: Any) -> None:
        file = HERE / "weights.npy"
        self._weights = np.load(file) if file.is_file() else None

    def execute(self, requests: Any) -> list[Any]:
        return [backend.InferenceResponse(self._answer(one)) for one in requests]

    def _answer(self, request: Any) -> list[Any]:
        if self._weights is None:
            return [_same(one) for one in request.inputs()]
        rows = backend.get_input_tensor_by_name(request, "images").as_numpy()
        powers = np.exp(rows @ self._weights)
        return [backend.Tensor("scores", np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32))]


def _same(given: Any) -> Any:
    if given.name() == "BYTES":
        return backend.Tensor(given.name(), given.as_numpy())
    return backend.Tensor.from_dlpack(given.name(), given.to_dlpack())  # numpy has no BF16
