"""Arrays of every dtype and many shapes, and texts, that are written as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from slipway_client.requests import DTYPES

_DTYPES = tuple(dtype for dtype in DTYPES if dtype != "string")
_SHAPES = ((), (1,), (1, 1), (2,), (3, 4), (0,), (2, 0), (1, 784))


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(11)
    out: dict[str, np.ndarray] = {}
    for dtype in _DTYPES:
        for shape in _SHAPES:
            values: Any = generator.standard_normal(shape) * 50
            if dtype.startswith("complex"):
                values = values + 1j * generator.standard_normal(shape)
            if dtype.startswith("u"):
                values = np.abs(values)
            out[f"{dtype}{shape}"] = np.asarray(values).astype(dtype)
    out["not contiguous"] = np.arange(12, dtype=np.float32).reshape(3, 4).T
    out["big endian"] = np.arange(3, dtype=">f4")
    out["nan"] = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    return out


TEXTS: dict[str, Any] = {
    "one": [b"a"],
    "many": [b"a", b"", b"\xff\x00\x00"],
    "matrix": [[b"a", b"b"], [b"c", b"d"]],
    "scalar": b"alone",
}
