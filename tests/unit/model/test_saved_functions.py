"""The order of a model's functions: by number, whatever a damaged or hostile file calls them."""

from __future__ import annotations

import pytest
from slipway.model.saved_functions import _by_number


def test_functions_are_in_the_order_of_their_numbers() -> None:
    names = ["f_2_b", "__inference_f_010", "__inference_f_9", "__inference_f", "f_10", "f_2", "3", "f\n7"]
    assert sorted(names, key=_by_number) == [
        *("3", "__inference_f", "__inference_f_9", "__inference_f_010"),
        *("f\n7", "f_2", "f_10", "f_2_b"),
    ]


@pytest.mark.parametrize("end", ["", "a"])
def test_a_name_of_any_number_of_digits_has_a_place(end: str) -> None:
    many = "1" * 300_000 + end  # squared, this would take minutes; Python makes no int of it either
    assert sorted([many, "2" + end], key=_by_number) == ["2" + end, many][:: -1 if end else 1]
