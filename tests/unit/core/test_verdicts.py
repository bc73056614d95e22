"""What is said of gates and replicas, whoever reads it."""

from __future__ import annotations

import dataclasses

import pytest
from slipway.core.types import Gate, ReplicaProof
from slipway.core.verdicts import complaints, gate_line, place

GOOD = ReplicaProof("10.0.0.9:8500", "pod-a", "worker-1", 100, 0, 7, 0, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"errors": 3}, ["3 of 100 requests failed"]),
        ({"differences": 2}, ["2 of 100 answers differ from the recorded ones"]),
        ({"errors": 1, "error": "no answer"}, ["1 of 100 requests failed", "no answer"]),
        ({"requests": 0}, ["answered nothing"]),
        ({"requests": 0, "error": "not ready: Pending"}, ["not ready: Pending"]),
    ],
)
def test_what_a_replica_did_wrong(changes: dict[str, int | str], expected: list[str]) -> None:
    assert complaints(dataclasses.replace(GOOD, **changes)) == expected  # type: ignore[arg-type]  # its own fields


def test_where_a_replica_is() -> None:
    assert place(GOOD) == "pod pod-a on node worker-1"
    assert place(dataclasses.replace(GOOD, node="")) == "pod pod-a on node unknown"
    assert place(dataclasses.replace(GOOD, pod="", node="")) == "10.0.0.9:8500"


def test_a_gate_stands_beside_its_limit() -> None:
    assert gate_line(Gate("errors", 0, 3, False)) == "errors: 3, the limit is 0"
    assert gate_line(Gate("differences", 0, 0, True, "no recorded answers")) == (
        "differences: 0, the limit is 0 (no recorded answers)"
    )
