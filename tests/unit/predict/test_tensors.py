"""Tensors and requests, byte for byte what TensorFlow writes; TensorFlow runs in another process."""

import base64
import json
import sys

import numpy as np
import pytest

from infra.core import process
from infra.core.errors import UsageError
from infra.predict.over_grpc import classify_request, predict_request
from infra.predict.requests import DTYPES
from infra.predict.tensors import from_proto, tensor_pb2, to_proto, types_pb2

_DTYPES = tuple(dtype for dtype in DTYPES if dtype != "string")
_SHAPES = ((), (1,), (1, 1), (2,), (3, 4), (0,), (2, 0), (1, 784))


def _arrays():
    generator = np.random.default_rng(11)
    out = {}
    for dtype in _DTYPES:
        for shape in _SHAPES:
            values = generator.standard_normal(shape) * 50
            if dtype.startswith("complex"):
                values = values + 1j * generator.standard_normal(shape)
            if dtype.startswith("u"):
                values = np.abs(values)
            out[f"{dtype}{shape}"] = np.asarray(values).astype(dtype)
    out["not contiguous"] = np.arange(12, dtype=np.float32).reshape(3, 4).T
    out["big endian"] = np.arange(3, dtype=">f4")
    out["nan"] = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    return out


_TEXTS = {
    "one": [b"a"],
    "many": [b"a", b"", b"\xff\x00\x00"],
    "matrix": [[b"a", b"b"], [b"c", b"d"]],
    "scalar": b"alone",
}

_TENSORFLOW = """
import base64, json, pickle, sys
import numpy as np
import tensorflow as tf
from infra.predict import stubs
from tensorflow_serving.apis import classification_pb2, predict_pb2

stubs.load()  # where TensorFlow is, it stays
assert stubs.full() and sys.modules["tensorflow"] is tf
arrays, texts = pickle.loads(base64.b64decode(sys.stdin.read()))
out = {}
for name, array in arrays.items():
    out[name] = tf.make_tensor_proto(array).SerializeToString()
for name, text in texts.items():
    out["text " + name] = tf.make_tensor_proto(text).SerializeToString()

request = predict_pb2.PredictRequest()
request.model_spec.name = "mnist"
request.model_spec.signature_name = "predict_images"
request.inputs["images"].CopyFrom(tf.make_tensor_proto(arrays["float32(1, 784)"], shape=[1, 784]))
out["predict"] = request.SerializeToString(deterministic=True)

request = classification_pb2.ClassificationRequest()
request.model_spec.name = "mnist"
request.model_spec.signature_name = "serving_default"
request.model_spec.version.value = 3
row = arrays["float32(1, 784)"][0]
feature = tf.train.Feature(float_list=tf.train.FloatList(value=row))
number = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, -2]))
text = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\\xff", b"t"]))
example = tf.train.Example(features=tf.train.Features(feature={"x": feature, "n": number, "t": text}))
request.input.example_list.examples.extend([example])
out["classify"] = request.SerializeToString(deterministic=True)
print(json.dumps({name: base64.b64encode(raw).decode() for name, raw in out.items()}))
"""


@pytest.fixture(scope="module")
def tensorflow():
    """What TensorFlow makes of the same arrays."""
    import pickle

    sent = base64.b64encode(pickle.dumps((_arrays(), _TEXTS))).decode()
    done = process.run(
        [sys.executable, "-c", _TENSORFLOW], input=sent, env={"TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=300
    )
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    return {name: base64.b64decode(raw) for name, raw in answers.items()}


def test_every_dtype_and_shape_is_written_as_tensorflow_writes_it(tensorflow):
    arrays = _arrays()
    different = [
        name for name, array in arrays.items() if to_proto(array).SerializeToString() != tensorflow[name]
    ]
    assert different == []
    assert len(arrays) > 110


@pytest.mark.parametrize("name", _TEXTS)
def test_strings_are_written_as_tensorflow_writes_them(tensorflow, name):
    array = np.array(_TEXTS[name], dtype=object)
    assert to_proto(array).SerializeToString() == tensorflow[f"text {name}"]


def test_whole_requests_are_those_of_the_full_package(tensorflow):
    row = _arrays()["float32(1, 784)"]
    request = predict_request("mnist", "predict_images", {"images": row})
    assert request.SerializeToString(deterministic=True) == tensorflow["predict"]
    example = {"x": row[0], "n": np.array([1, -2]), "t": np.array([b"\xff", "t"], dtype=object)}
    request = classify_request("mnist", "serving_default", [example], version=3)
    assert request.SerializeToString(deterministic=True) == tensorflow["classify"]


@pytest.mark.parametrize("name", _arrays())
def test_what_is_written_is_read_back(name):
    array = _arrays()[name]
    back = from_proto(to_proto(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.tobytes() == np.ascontiguousarray(array).astype(back.dtype).tobytes()


def test_typed_values_are_read_as_servers_send_them():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[0.25, 0.75])
    proto.tensor_shape.dim.add().size = 1
    proto.tensor_shape.dim.add().size = 2
    assert from_proto(proto).tolist() == [[0.25, 0.75]]
    half = tensor_pb2.TensorProto(dtype=types_pb2.DT_HALF, half_val=[0x3C00])
    half.tensor_shape.dim.add().size = 3
    assert from_proto(half).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("fields", "sizes", "words"),
    [
        ({"dtype": types_pb2.DT_FLOAT, "tensor_content": b"\0" * 7}, [2], "7 bytes of content"),
        ({"dtype": types_pb2.DT_FLOAT, "float_val": [1, 2, 3]}, [2], "3 values"),
        ({"dtype": types_pb2.DT_FLOAT}, [-1], "shape"),
        ({"dtype": types_pb2.DT_QINT8}, [1], "DT_QINT8"),
    ],
)
def test_an_answer_whose_content_and_shape_disagree_is_refused(fields, sizes, words):
    proto = tensor_pb2.TensorProto(**fields)
    for size in sizes:
        proto.tensor_shape.dim.add().size = size
    with pytest.raises(ValueError, match=words):
        from_proto(proto)


def test_a_dtype_tensorflow_does_not_know_is_refused():
    with pytest.raises(UsageError, match="datetime64"):
        to_proto(np.array(["2020-01-01"], dtype="datetime64[D]"))
