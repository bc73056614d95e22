"""An error in one line."""

from __future__ import annotations

from slipway.core.errors import SlipwayError


def test_one_line_has_the_last_line_of_the_cause() -> None:
    error = SlipwayError("it broke", where="pod a", tail="first\n  last of it \n", action="mend it")
    assert error.in_one_line() == "it broke (last of it)"
    assert SlipwayError("it broke", where="pod a").in_one_line() == "it broke"
