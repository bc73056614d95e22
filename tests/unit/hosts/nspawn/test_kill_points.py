"""The points at which the contract suite kills `up` are places of the code as it is now."""

from __future__ import annotations

import pytest

from tests.contract.killed_up import place
from tests.contract.test_nspawn import POINTS


@pytest.mark.parametrize("point", [point for point in POINTS if not point.startswith("said:")])
def test_a_point_is_a_function(point: str) -> None:
    owner, attribute = place(point.partition(":")[2])
    assert callable(getattr(owner, attribute))
