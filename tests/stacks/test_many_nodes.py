"""Deployments on nodes that kwok reports for, with pods whose own addresses lead to one real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stacks.many_nodes import rehearse

pytestmark = pytest.mark.lab


def judged(document: dict[str, Any]) -> None:
    """What holds at any size: each replica proven at its own address, and no list of all pods in a loop."""
    replicas = document["replicas"]
    for verb in ("deploy", "deploy again", "status", "smoke"):
        assert document[verb]["exit"] == 0, document[verb]["said"]
    proof = document["proof"]
    assert (proof["ok"], proof["replicas"], proof["endpoints"]) == (True, replicas, replicas), proof["gates"]
    assert list(proof["versions"].values()) == [replicas]
    # deploy: what its watch begins with, what came of it; smoke: who answers, which image each runs
    begun = {verb: document[verb]["asked"].get("lists of pods begun", 0) for verb in ("deploy", "smoke")}
    assert begun["deploy"] <= 3 and begun["smoke"] <= 2, begun
    assert document["deploy again"]["asked"].get("lists of pods begun", 0) <= 1


def test_a_few_nodes() -> None:
    document = rehearse(4, 12, many=10)
    judged(document)
    assert "version and 5 answers" in document["smoke"]["said"]
    assert document["proof"]["gates"]["network_policy"][2].startswith("tried from 8 of 12 replicas")


@pytest.mark.soak
@pytest.mark.alone
def test_a_thousand_nodes() -> None:
    document = rehearse(1000, 3000)
    judged(document)
    assert max(document[verb]["driver_mb"] for verb in ("deploy", "status", "smoke")) < 400
    assert document["page"]["mb"] < 2
