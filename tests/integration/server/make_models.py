"""Run with TensorFlow itself, in its own process: SavedModels to serve, and TensorFlow's own answers.

usage: make_models.py FOLDER. Writes FOLDER/models/<name>/<version> and FOLDER/answers.pickle, a list
of {model, signature, inputs: {name: serialized TensorProto}, outputs: {name: (dtype, shape, content)}}
where content is the bytes of the elements, or a list of bytes for strings.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

ECHOED = (
    *("float32", "float64", "half", "bfloat16", "complex64", "complex128", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("qint8", "qint16", "qint32", "quint8", "quint16"),
)
# numpy has no quantized types: their values are made and read as these.
QUANTIZED = {"qint8": "int8", "qint16": "int16", "qint32": "int32", "quint8": "uint8", "quint16": "uint16"}


class Perceptron(tf.Module):
    """The chain's network with random weights, and an example-based signature on top."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        super().__init__()
        weights = tf.keras.initializers.GlorotUniform(seed)
        self.layers = [
            (tf.Variable(weights((rows, columns)) * scale), tf.Variable(tf.zeros([columns])))
            for rows, columns in ((784, 256), (256, 256), (256, 10))
        ]

    def scores(self, images: Any) -> Any:
        for weights, bias in self.layers[:-1]:
            images = tf.nn.relu(images @ weights + bias)
        weights, bias = self.layers[-1]
        return tf.nn.softmax(images @ weights + bias)

    @tf.function(input_signature=[tf.TensorSpec([None, 784], tf.float32, name="images")])
    def predict_images(self, images: Any) -> Any:
        return {"scores": self.scores(images)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: Any) -> Any:
        feature = {"x": tf.io.FixedLenFeature([784], tf.float32)}
        scores, classes = tf.nn.top_k(self.scores(tf.io.parse_example(inputs, feature)["x"]), 10)
        return {"classes": tf.strings.as_string(classes), "scores": scores}


class Shapes(tf.Module):
    """One signature per thing a server can get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.three = tf.Variable(3.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half_plus_three(self, x: Any) -> Any:
        return {"y": x * 0.5 + self.three}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="a"),
            tf.TensorSpec([None, 2], tf.float32, name="b"),
        ]
    )
    def two(self, a: Any, b: Any) -> Any:
        return {"sum": a + b, "difference": a - b, "rows": tf.shape(a)[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: Any) -> Any:
        feature = {"x": tf.io.FixedLenFeature([], tf.float32, 1.0)}
        return {"outputs": tf.io.parse_example(inputs, feature)["x"] * 2 + self.three}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def narrow(self, inputs: Any) -> Any:
        return {"scores": tf.ones([tf.size(inputs) + 1, 2])}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
    def spin(self, n: Any) -> Any:
        """About n times 0.1 ms of work."""
        value = tf.eye(64)
        for _ in tf.range(n):
            value = tf.linalg.matmul(value, value) * 0.5 + tf.eye(64)
        return {"value": tf.reduce_sum(value), "n": n}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="text")])
    def reverse(self, text: Any) -> Any:
        return {"text_bytes": tf.strings.join([text, text]), "text": text, "length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def constant(self, x: Any) -> Any:
        return {"scalar": tf.reduce_sum(x), "empty": tf.zeros([0, 3]), "same": x}


def echo(dtype: str) -> Any:
    specification = tf.TensorSpec(None, tf.as_dtype(dtype), name="x")
    return tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[specification])


def save(module: Any, path: Path, signatures: dict[str, Any], methods: dict[str, str]) -> None:
    tf.saved_model.save(module, str(path), signatures=signatures)
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for name, method in methods.items():
        saved.meta_graphs[0].signature_def[name].method_name = f"tensorflow/serving/{method}"
    if "two" in signatures:
        default = tf.make_tensor_proto([[1.0, 2.0]])
        saved.meta_graphs[0].signature_def["two_defaulted"].CopyFrom(
            saved.meta_graphs[0].signature_def["two"]
        )
        saved.meta_graphs[0].signature_def["two_defaulted"].defaults["b"].CopyFrom(default)
    file.write_bytes(saved.SerializeToString())


def samples(dtype: str) -> list[Any]:
    """Values of a dtype in shapes [], [2,3], [0,4]; the extremes among them."""
    kind = tf.as_dtype(dtype)
    if dtype == "string":
        return [np.array(b"\x00\xff" + b"long" * 20, object), np.array([["", "a", "\u00fc"]], object)]
    if dtype == "bool":
        flat = np.array([True, False, True, True, False, False])
    elif kind.is_floating or kind.is_complex:
        flat = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, 1 / 3]).astype(kind.as_numpy_dtype)
    else:
        limits = np.iinfo(QUANTIZED.get(dtype, dtype))
        flat = np.array([limits.min, limits.max, 0, 1, limits.min + 1, limits.max - 1], limits.dtype)
    return [flat[5].reshape(()), flat.reshape(2, 3), flat[:0].reshape(0, 4)]


def told(tensor: Any) -> tuple[int, tuple[int, ...], Any]:
    kind = tensor.dtype
    array = (tf.bitcast(tensor, QUANTIZED[kind.name]) if kind.is_quantized else tensor).numpy()
    content = (
        [bytes(item) for item in np.asarray(array, object).ravel()]
        if kind == tf.string
        else np.asarray(array).tobytes()
    )
    return kind.as_datatype_enum, tuple(tensor.shape), content


def main(folder: Path) -> None:
    # as the server does: on some processors TensorFlow adds up in another order when threads share the rows
    tf.config.threading.set_intra_op_parallelism_threads(1)
    folder.mkdir(exist_ok=True)
    models = folder / "models"
    for version, scale in ((1, 1.0), (2, 2.0)):
        net = Perceptron(version, scale)
        save(
            net,
            models / "net" / str(version),
            {"predict_images": net.predict_images, "serving_default": net.classify},
            {"serving_default": "classify"},
        )
    shapes = Shapes()
    signatures = {
        name: getattr(shapes, name)
        for name in ("half_plus_three", "two", "regress", "narrow", "spin", "reverse", "constant")
    }
    signatures |= {f"echo_{dtype}": echo(dtype) for dtype in ECHOED}
    save(shapes, models / "shapes" / "1", signatures, {"regress": "regress", "narrow": "classify"})

    answers: list[dict[str, Any]] = []

    def ask(model: str, signature: str, **inputs: Any) -> None:
        call = loaded[model].signatures[signature]
        quantized = signature.removeprefix("echo_") if signature.removeprefix("echo_") in QUANTIZED else None
        protos = {}
        tensors = {}
        for name, value in inputs.items():
            proto = tf.make_tensor_proto(value)
            tensors[name] = tf.constant(value)
            if quantized:
                proto.dtype = tf.as_dtype(quantized).as_datatype_enum
                tensors[name] = tf.bitcast(tensors[name], quantized)
            protos[name] = proto.SerializeToString()
        outputs = call(**tensors)
        answers.append(
            {
                "model": model,
                "signature": signature,
                "inputs": protos,
                "outputs": {name: told(tensor) for name, tensor in outputs.items()},
            }
        )

    loaded = {
        "net": tf.saved_model.load(str(models / "net" / "2")),
        "shapes": tf.saved_model.load(str(models / "shapes" / "1")),
    }
    random = np.random.default_rng(7)
    for rows in (0, 1, 3, 64):
        ask("net", "predict_images", images=random.random((rows, 784), np.float32))
    ask("net", "predict_images", images=np.full((2, 784), np.nan, np.float32))
    for dtype in ECHOED:
        for value in samples(dtype):
            ask("shapes", f"echo_{dtype}", x=value)
    ask(
        "shapes",
        "two",
        a=np.array([[1, 2], [3, 4]], np.float32),
        b=np.array([[0.1, 0.2], [0.3, 1e30]], np.float32),
    )
    ask("shapes", "reverse", text=np.array([[b"a", b"\xff\x00"]], object))
    ask("shapes", "constant", x=np.array([1, 2, 3], np.float32))
    (folder / "answers.pickle").write_bytes(pickle.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
