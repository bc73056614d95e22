"""Tensors and requests, byte for byte what TensorFlow writes; TensorFlow runs in another process."""

import base64
import json
import sys

import numpy as np
import pytest
from slipway.core import process
from slipway_client.over_grpc import classify_request, predict_request, regress_request
from slipway_client.tensors import to_proto

from tests.unit.client.sample_arrays import TEXTS, arrays

_TENSORFLOW = """
import base64, json, pickle, sys
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

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

request = regression_pb2.RegressionRequest()
request.model_spec.name = "mnist"
request.model_spec.signature_name = "price"
request.input.example_list.examples.extend([example])
out["regress"] = request.SerializeToString(deterministic=True)
print(json.dumps({name: base64.b64encode(raw).decode() for name, raw in out.items()}))
"""


@pytest.fixture(scope="module")
def tensorflow():
    """What TensorFlow makes of the same arrays."""
    import pickle

    sent = base64.b64encode(pickle.dumps((arrays(), TEXTS))).decode()
    done = process.run(
        [sys.executable, "-c", _TENSORFLOW], input=sent, env={"TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=300
    )
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    return {name: base64.b64decode(raw) for name, raw in answers.items()}


def test_every_dtype_and_shape_is_written_as_tensorflow_writes_it(tensorflow):
    sent = arrays()
    different = [
        name for name, array in sent.items() if to_proto(array).SerializeToString() != tensorflow[name]
    ]
    assert different == []
    assert len(sent) > 110


@pytest.mark.parametrize("name", TEXTS)
def test_strings_are_written_as_tensorflow_writes_them(tensorflow, name):
    array = np.array(TEXTS[name], dtype=object)
    assert to_proto(array).SerializeToString() == tensorflow[f"text {name}"]


def test_whole_requests_are_those_of_the_full_package(tensorflow):
    row = arrays()["float32(1, 784)"]
    request = predict_request("mnist", "predict_images", {"images": row})
    assert request.SerializeToString(deterministic=True) == tensorflow["predict"]
    example = {"x": row[0], "n": np.array([1, -2]), "t": np.array([b"\xff", "t"], dtype=object)}
    request = classify_request("mnist", "serving_default", [example], version=3)
    assert request.SerializeToString(deterministic=True) == tensorflow["classify"]
    request = regress_request("mnist", "price", [example])
    assert request.SerializeToString(deterministic=True) == tensorflow["regress"]
