"""A SavedModel of a few hundred bytes that every reader takes, with recorded requests; no TensorFlow makes it."""

from __future__ import annotations

from pathlib import Path

from slipway_client import messages

REQUESTS = (
    b'{"method": "predict", "signature": "serving_default", '
    b'"inputs": {"x": {"dtype": "float32", "shape": [1], "values": [1.0]}}, '
    b'"expected": {"y": {"dtype": "float32", "shape": [1], "values": [1.0]}}}\n'
)


def files(weight: bytes = b"w") -> dict[str, bytes]:
    """Its files by name. weight: the content of its one variable's file, of any size."""
    message = messages.SavedModel()
    graph = message.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    signature = graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for side, key in ((signature.inputs, "x"), (signature.outputs, "y")):
        side[key].name = f"{key}:0"
        side[key].dtype = 1
        side[key].tensor_shape.dim.add().size = -1
    return {
        "saved_model.pb": message.SerializeToString(),
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": weight,
        "assets.extra/requests.jsonl": REQUESTS,
    }


def write(folder: Path, weight: bytes = b"w") -> Path:
    """Write it into a folder."""
    for name, data in files(weight).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
