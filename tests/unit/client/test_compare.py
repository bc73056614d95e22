import ml_dtypes
import numpy as np
import pytest
from slipway_client.compare import difference, disagreement, predicted_classes
from slipway_client.json_values import ShapeOnly

SCORES = np.array([[0.1, 0.7, 0.2]], np.float32)
NAMES = np.array([[b"1", b"2", b"0"]], dtype=object)
BEST = np.array([[0.7, 0.2, 0.1]], np.float32)


def test_what_lies_within_the_tolerance_is_no_difference():
    assert difference({"scores": SCORES}, {"scores": SCORES + np.float32(9e-6)}, 1e-5) == ""
    assert difference({"scores": SCORES}, {"scores": SCORES, "more": SCORES}, 0.0) == ""
    nan = np.array([np.nan, np.inf], np.float32)
    assert difference({"y": nan}, {"y": nan}, 0.0) == ""


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.complex64])
def test_one_step_of_a_coarse_type_is_no_difference_and_two_are(dtype):
    value = np.array([1000.0], dtype)
    step = np.array(1000 * float(ml_dtypes.finfo(dtype).eps))
    assert difference({"y": value}, {"y": (value + step / 2).astype(dtype)}, 1e-5) == ""
    assert "y[0] is" in difference({"y": value}, {"y": (value + 2 * step).astype(dtype)}, 1e-5)
    assert "y[0] is" in difference({"y": value}, {"y": (value + step).astype(dtype)}, 0.0)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (ShapeOnly("float32", (1, 3)), ""),
        (ShapeOnly("float32", (-1, 3)), ""),
        (ShapeOnly("float32", (1, 2)), "y is float32 [1, 3], recorded float32 [1, 2]"),
        (ShapeOnly("float32", (1,)), "recorded float32 [1]"),
        (ShapeOnly("string", (1, 3)), "recorded string"),
    ],
)
def test_of_some_outputs_only_the_form_is_compared(form, words):
    said = difference({"y": form}, {"y": SCORES}, 1e-5)
    assert (words in said) if words else said == ""


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (
            {"scores": SCORES},
            {"scores": SCORES + np.float32(2e-5)},
            ["scores[0,0] is 0.1", "recorded 0.1", "3 of 3"],
        ),
        ({"scores": SCORES}, {}, ["scores is missing"]),
        ({"scores": SCORES}, {"scores": SCORES[0]}, ["shape [3]", "recorded [1, 3]"]),
        ({"scores": SCORES}, {"scores": np.full((1, 3), np.nan, np.float32)}, ["is nan"]),
        ({"scores": SCORES}, {"scores": NAMES}, ["strings", "recorded float32"]),
        ({"classes": NAMES}, {"classes": NAMES[:, ::-1]}, ["classes[0,0] is b'0'", "recorded b'1'"]),
        ({"n": np.array([3])}, {"n": np.array([4])}, ["n[0] is 4", "recorded 3"]),
        ({"inf": np.array([np.inf])}, {"inf": np.array([-np.inf])}, ["-inf"]),
    ],
)
def test_the_first_difference_is_told_with_its_place(expected, got, words):
    said = difference(expected, got, 1e-5)
    assert all(word in said for word in words), said


def test_the_class_of_a_row():
    assert predicted_classes({"scores": SCORES}, 1) == [1]
    assert predicted_classes({"classes": NAMES, "scores": BEST}, 1) == [1]
    # Not every server sorts a classification.
    assert predicted_classes({"classes": NAMES[:, ::-1], "scores": BEST[:, ::-1]}, 1) == [1]
    assert predicted_classes({"a": SCORES, "b": SCORES}, 1) is None
    assert predicted_classes({"scores": SCORES}, 2) is None
    assert predicted_classes({"classes": np.array([[b"cat"]], dtype=object)}, 1) is None
    assert predicted_classes({"classes": np.array([[b"9" * 5000]], dtype=object)}, 1) is None
    assert predicted_classes({"classes": NAMES, "scores": BEST[0]}, 1) is None
    assert predicted_classes({"classes": NAMES[:, :1], "scores": SCORES}, 1) is None


@pytest.mark.parametrize(
    ("classes", "scores", "words"),
    [
        (NAMES, BEST, ""),
        (np.full((1, 3), b"", dtype=object), SCORES, ""),
        (NAMES, SCORES, "class 1"),
        (NAMES[:, ::-1], BEST, "class 0"),
        (np.array([[b"7", b"1", b"2"]], dtype=object), BEST, "names class '7'"),
        (np.array([[b"cat", b"1", b"2"]], dtype=object), BEST, "names class 'cat'"),
        (np.array([[b"9" * 5000, b"1", b"2"]], dtype=object), BEST, "names class '99"),
        (np.repeat(NAMES, 2, axis=0), np.repeat(BEST, 2, axis=0), "answered 2 examples"),
        (NAMES, BEST * np.float32(np.nan), "nan"),
    ],
)
def test_classify_against_predict(classes, scores, words):
    said = disagreement(SCORES, {"classes": classes, "scores": scores}, 1e-5)
    assert (words in said) if words else said == ""
