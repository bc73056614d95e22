"""What is left out of the comparison with REST, and what is not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from slipway_client.client import Answer, Signature, TensorSpec
from slipway_client.json_carries import not_in_json
from slipway_client.requests import FixedRequest

FLOATS = np.array([1.0], np.float32)
SPEC = TensorSpec("float32", (None,))


def said(given, answer, defaults=()):
    signature = Signature("s", "predict", dict.fromkeys(("x", *defaults), SPEC), {}, frozenset(defaults))
    return not_in_json(FixedRequest("predict", "s", given), signature, Answer(answer))


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (FLOATS, ""),
        (np.array([2**63 - 1]), ""),
        (np.array([True]), ""),
        (np.array(["\u00e9".encode()], object), ""),
        (np.zeros((0,)), ""),
        (np.zeros((2, 0)), ""),
        (np.zeros((0, 3), np.float32), "the shape [0, 3]"),
        (FLOATS.astype(np.float16), "half"),
        (FLOATS.astype(ml_dtypes.bfloat16), "bfloat16"),
        (FLOATS.astype(np.complex64), "complex64"),
        (FLOATS.astype(np.uint16), "uint16"),
    ],
)
def test_what_json_has_no_form_for(array, why):
    assert said({"x": array}, {"y": FLOATS}) == (f"JSON cannot carry {why} (input x)" if why else "")
    assert said({"x": FLOATS}, {"y": array}) == (f"JSON cannot carry {why} (output y)" if why else "")


def test_bytes_that_are_no_text_go_in_as_base64_and_come_out_so_by_their_name():
    raw = np.array([[b"\xff\x00"]], object)
    assert said({"x": raw}, {"y_bytes": raw}) == ""
    assert said({"x": raw}, {"y": raw}) == "JSON cannot carry bytes that are no text (output y)"


def test_inputs_that_may_be_left_out_and_none_at_all():
    assert "input scale, which has a default" in said({"x": FLOATS}, {}, defaults=("scale",))
    assert said({"x": FLOATS, "scale": FLOATS}, {}, defaults=("scale",)) == ""
    none = Signature("s", "predict", {}, {})
    assert "without inputs" in not_in_json(FixedRequest("predict", "s"), none, Answer({}))
    assert not_in_json(FixedRequest("classify", "s"), none, Answer({})) == ""
