"""What of a server's words is told in one line."""

from __future__ import annotations

import pytest
from slipway_client.errors import RequestFailed, cause

SIZES = "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (f"{SIZES}\n\t [[{{{{node dense/MatMul}}}}]]", SIZES),
        (
            f"2 root error(s) found.\n  (0) INVALID_ARGUMENT: {SIZES}\n\t [[{{{{node MatMul}}}}]]\n"
            "\t [[Softmax/_7]]\n  (1) INVALID_ARGUMENT: another\n0 successful operations.",
            SIZES,
        ),
        (f"Graph execution error:\n\n{SIZES}", SIZES),
        ("", ""),
    ],
)
def test_the_first_line_that_says_what_was_wrong(said, words):
    assert cause(said) == words
    told = RequestFailed("the server answered INVALID_ARGUMENT", tail=said).in_one_line()
    assert told == "the server answered INVALID_ARGUMENT" + (f" ({words})" if words else "")


def test_a_tab_is_a_space_and_what_steers_a_terminal_is_not_there():
    assert RequestFailed("failed", tail="a\tb\x1b[2J").tail == "a b?[2J"
