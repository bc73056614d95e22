from __future__ import annotations

import pytest
from slipway.clients.hosts_play import within


@pytest.mark.parametrize(
    ("limit", "pattern"),
    [("", "slipway"), ("worker:!w", "worker:!w:&slipway"), ("cp,w", "cp,w,&slipway")],
)
def test_a_limit_stays_within_slipways_hosts(limit: str, pattern: str) -> None:
    assert within(limit) == pattern
