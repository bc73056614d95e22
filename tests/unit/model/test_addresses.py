"""Where a SavedModel is among files, by their names alone."""

from __future__ import annotations

import pytest
from slipway.core.errors import ModelError
from slipway.model.addresses import Place, named_version, place


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["saved_model.pb", "variables/x"], Place("", None)),
        (["saved_model.pbtxt"], Place("", None)),
        (["1/saved_model.pb", "10/saved_model.pb", "9/saved_model.pb"], Place("10", 10)),
        (["mnist/saved_model.pb"], Place("mnist", None)),
        (["mnist/2/saved_model.pb", "mnist/1/saved_model.pb", "README"], Place("mnist/2", 2)),
        (["a/saved_model.pb", "a/assets.extra/b/saved_model.pb"], Place("a", None)),
        (["saved_model.pb", "assets/1/saved_model.pb"], Place("", None)),
        (["007/saved_model.pb"], Place("007", 7)),
    ],
)
def test_the_model_there_is(names: list[str], expected: Place) -> None:
    assert place(names, "here") == expected


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "holds no SavedModel"),
        (["model.onnx", "config.json"], "holds no SavedModel"),
        (["a/1/saved_model.pb", "b/saved_model.pb"], "holds 2 models: a, b"),
        (["saved_model.pb.part"], "holds no SavedModel"),
    ],
)
def test_none_or_several_are_told(names: list[str], says: str) -> None:
    with pytest.raises(ModelError, match=says) as refused:
        place(names, "s3://bucket/a")
    assert refused.value.where == "s3://bucket/a"


def test_which_files_are_the_models() -> None:
    found = Place("mnist/2", 2)
    assert [found.has(name) for name in ("mnist/2/x", "mnist/21/x", "mnist/2")] == [True, False, False]
    assert found.below("mnist/2/variables/x") == "variables/x"
    assert Place("", None).below("x") == "x"


def test_an_address_may_end_with_a_version() -> None:
    addresses = ("s3://b/m/3", "s3://b/m/3/", "s3://b/m", "https://h/m.tar.gz", "s3://b/m/%33", "gs://7")
    assert [named_version(one) for one in addresses] == [3, 3, None, None, 3, None]
