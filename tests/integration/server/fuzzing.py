"""What both doors are fuzzed with: the cases counted by code, memory held, the next good request answered."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .conftest import Server, predict_request
from .protos import floats

MIB = 1024 * 1024
GOOD = predict_request("shapes", "half_plus_three", x=floats([2], [1, 2]))


def assert_serves(server: Server) -> None:
    assert server.process.poll() is None, server.log.read_text()
    assert list(server.predict(GOOD).outputs["y"].float_val) == [3.5, 4.0]


class Fuzz:
    """Sends cases and counts answers; `reached` those that the session computed or refused itself."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.codes: Counter[str | int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.reached = 0

    def send(self, *case: Any) -> None:
        """Send one case, count it, and hold its answer to what a client's mistake may earn."""
        raise NotImplementedError

    def report(self) -> str:
        return json.dumps(
            {"cases": sum(self.kinds.values()), "reached_session": self.reached}
            | {"kinds": dict(self.kinds), "codes": dict(self.codes)}
        )


def fuzz(run: Fuzz, strategy: st.SearchStrategy[Any], cases: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Send `cases` cases, print the counts, and hold the server to having lived well through them."""
    memory: list[int] = []

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(case: tuple[Any, ...]) -> None:
        run.send(*case)
        if sum(run.kinds.values()) == cases // 5:
            memory.append(run.server.resident())  # once TensorFlow and the allocator have settled

    one()
    with capsys.disabled():
        print(f"\n{run.report()}")
    assert sum(run.kinds.values()) >= cases
    assert run.reached >= cases / 3, run.report()
    assert run.server.resident() - memory[0] < 64 * MIB
    assert_serves(run.server)
    assert not run.server.events("fault")
