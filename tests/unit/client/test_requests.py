import json
import math

import numpy as np
import pytest
from slipway.core.errors import UsageError
from slipway_client.json_values import ShapeOnly
from slipway_client.requests import FixedRequest, read, write

GOOD = {
    "method": "predict",
    "signature": "predict_images",
    "inputs": {"images": {"dtype": "float32", "shape": [1, 2], "values": [0.25, 1]}},
    "expected": {"scores": {"dtype": "float32", "shape": [1, 2], "values": [0.1, 0.9]}},
    "labels": [1],
}
CLASSIFY = {
    "method": "classify",
    "signature": "serving_default",
    "inputs": {"examples": [{"x": [0.5, 1.0]}]},
    "expected": {"classes": [["1", "0"]], "scores": [[0.9, 0.1]]},
}
REGRESS = {
    "method": "regress",
    "signature": "price",
    "inputs": {"examples": [{"rooms": [3]}, {"rooms": [4]}]},
    "expected": {"outputs": [1.5, 2.0]},
}


def _file(tmp_path, *lines):
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_reads_both_methods(tmp_path):
    predict, classify = read(_file(tmp_path, GOOD, "", CLASSIFY))
    assert predict.inputs["images"].dtype == np.float32
    assert predict.inputs["images"].tolist() == [[0.25, 1.0]]
    assert predict.labels == (1,)
    assert predict.tolerance == 1e-5
    assert classify.examples[0]["x"].dtype == np.float32
    assert classify.expected is not None
    assert classify.expected["classes"].tolist() == [[b"1", b"0"]]
    assert classify.labels is None


def test_reads_and_writes_regress(tmp_path):
    (request,) = read(_file(tmp_path, REGRESS))
    assert request.examples[1]["rooms"].tolist() == [4]
    assert request.expected is not None
    assert request.expected["outputs"].tolist() == [1.5, 2.0]
    write(tmp_path / "again", [request])
    assert json.loads((tmp_path / "again").read_text()) == {**REGRESS, "tolerance": 1e-5}


def test_an_answer_of_which_only_the_form_is_known_comes_back(tmp_path):
    noise, words = ShapeOnly("bfloat16", (2, -1)), ShapeOnly("string", ())
    plain = np.array([1.5])
    write(
        tmp_path / "r", [FixedRequest("predict", "s").answered({"noise": noise, "words": words, "y": plain})]
    )
    (back,) = read(tmp_path / "r")
    assert back.forms == {"noise": noise, "words": words}
    assert back.expected == {"y": plain}
    examples = ({"x": np.array([0.5], np.float32)},)
    write(tmp_path / "r", [FixedRequest("classify", "s", examples=examples).answered({"scores": noise})])
    assert (read(tmp_path / "r")[0].expected, read(tmp_path / "r")[0].forms) == ({}, {"scores": noise})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "complex64", "complex128"])
def test_floats_come_back_bit_for_bit(tmp_path, dtype):
    generator = np.random.default_rng(7)
    array = (generator.standard_normal((3, 50)) * 10.0 ** generator.integers(-4, 4, (3, 50))).astype(dtype)
    array[0, :3] = [math.nan, math.inf, -math.inf]
    path = tmp_path / "requests.jsonl"
    write(path, [FixedRequest("predict", "s", {"x": array}, expected={"y": array}, tolerance=0.0)])
    (back,) = read(path)
    assert back.inputs["x"].tobytes() == array.tobytes()
    assert back.expected is not None
    assert back.expected["y"].tobytes() == array.tobytes()
    assert back.tolerance == 0.0


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_whole_numbers_come_back_up_to_their_limits(tmp_path, dtype):
    limits = np.iinfo(dtype)
    array = np.array([limits.min, limits.max], dtype=dtype)
    write(tmp_path / "r", [FixedRequest("predict", "s", {"x": array})])
    back = read(tmp_path / "r")[0].inputs["x"]
    assert back.dtype == array.dtype
    assert back.tolist() == array.tolist()


def test_strings_scalars_and_empty_batches_come_back(tmp_path):
    text = np.array([b"a", b"\xff\x00", "\u00e9".encode(), b"NaN"], dtype=object)
    request = FixedRequest(
        "predict",
        "s",
        {"t": text, "scalar": np.array(3, dtype=np.int32), "none": np.zeros((0, 4), np.float32)},
    )
    write(tmp_path / "r", [request])
    back = read(tmp_path / "r")[0].inputs
    assert back["t"].tolist() == text.tolist()
    assert back["scalar"].shape == ()
    assert back["none"].shape == (0, 4)


def test_features_keep_their_kind(tmp_path):
    example: dict[str, np.ndarray] = {
        "f": np.array([0.0, 1.0], np.float32),
        "i": np.array([0, 1], np.int64),
        "b": np.array([b"NaN", b"\xfe"], dtype=object),
        "n": np.array([np.nan, 2.0], np.float32),
    }
    write(tmp_path / "r", [FixedRequest("classify", "s", examples=(example,))])
    back = read(tmp_path / "r")[0].examples[0]
    assert {name: array.dtype.kind for name, array in back.items()} == {
        "f": "f",
        "i": "i",
        "b": "O",
        "n": "f",
    }
    assert back["b"].tolist() == [b"NaN", b"\xfe"]


def _changed(base, **changes):
    data = json.loads(json.dumps(base))
    for key, value in changes.items():
        *parents, last = key.split("__")
        where = data
        for parent in parents:
            where = where[parent]
        where[last] = value
    return data


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ("{", "", "a JSON object"),
        ("[1]", "", "a JSON object"),
        (_changed(GOOD, tolerence=1), "tolerence", "only the keys"),
        (_changed(GOOD, method="guess"), "method", '"predict", "classify" or "regress"'),
        (_changed(GOOD, signature=""), "signature", "a signature's name"),
        (_changed(GOOD, inputs=[]), "inputs", "an object"),
        (_changed(CLASSIFY, inputs={}), "inputs", "not empty"),
        (_changed(GOOD, inputs__images__dtype="float33"), "inputs.images.dtype", "float32"),
        (_changed(GOOD, inputs__images__shape=[1, -2]), "inputs.images.shape", "0 or more"),
        (_changed(GOOD, inputs__images__shape=[2, 2]), "inputs.images.values", "4 values"),
        (_changed(GOOD, inputs__images__values=[0.1, None]), "inputs.images.values[1]", "a number"),
        (_changed(GOOD, inputs__images__values=[0.1, 1e39]), "inputs.images.values[1]", "a float32"),
        (_changed(GOOD, inputs__images__values=[[0.1], 1]), "inputs.images.values[0]", "a number"),
        (
            _changed(GOOD, inputs__images={"dtype": "uint8", "shape": [1], "values": [256]}),
            "inputs.images.values[0]",
            "uint8",
        ),
        (
            _changed(GOOD, inputs__images={"dtype": "string", "shape": [1], "values": [{"b64": "*"}]}),
            "inputs.images.values[0]",
            "base64",
        ),
        (_changed(GOOD, expected__scores=[0.1]), "expected.scores", "an object"),
        (_changed(GOOD, labels=["7"]), "labels", "whole numbers"),
        (_changed(GOOD, tolerance=-1), "tolerance", "0 or more"),
        (_changed(CLASSIFY, inputs={"x": [1.0]}), "inputs", "examples"),
        (_changed(CLASSIFY, inputs__examples=[]), "inputs.examples", "at least one"),
        (_changed(CLASSIFY, inputs__examples=[{"x": 1.0}]), "inputs.examples[0].x", "flat list"),
        (_changed(CLASSIFY, expected__scores=[[0.9], [0.1]]), "expected.scores", "1 lists"),
        (_changed(CLASSIFY, labels=[1, 2]), "labels", "1 labels"),
        (_changed(GOOD, expected__scores={"dtype": "int8", "shape": [-2]}), "expected.scores.shape", "-1 or"),
        (_changed(REGRESS, expected={"scores": [1.5, 2.0]}), "expected", "the key outputs"),
        (_changed(REGRESS, expected__outputs=[1.5]), "expected.outputs", "2 numbers"),
    ],
)
def test_bad_lines_are_refused_with_line_key_and_what_was_expected(tmp_path, line, key, expected):
    path = _file(tmp_path, GOOD, line)
    with pytest.raises(UsageError) as caught:
        read(path)
    message = caught.value.lines()[0]
    assert message.startswith(f"{path}:2: ")
    assert f"key {key}: " in message if key else "key" not in message
    assert expected in message


def test_every_bad_line_is_told_at_once(tmp_path):
    with pytest.raises(UsageError) as caught:
        read(_file(tmp_path, "{", GOOD, "[]"))
    lines = caught.value.lines()
    assert "2 bad requests" in lines[0]
    assert any(":1:" in line for line in lines)
    assert any(":3:" in line for line in lines)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_requests_is_refused(tmp_path, content):
    with pytest.raises(UsageError, match="no request"):
        read(_file(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "absent.jsonl")
    assert "absent.jsonl" in caught.value.lines()[0]
