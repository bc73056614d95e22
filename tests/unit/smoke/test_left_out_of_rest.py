"""What REST cannot carry is told in the gate's note and fails nothing; what it carries wrongly fails."""

from __future__ import annotations

import pytest
from slipway.core.types import Replica
from slipway.smoke.gates import transports_gate
from slipway.smoke.replicas import Tried

REPLICA = Replica("pod", "node", "10.0.0.1", 8500, 8501)
HALF = "JSON cannot carry half (output y)"


@pytest.mark.parametrize(
    ("transports", "disagree", "left_out", "ok", "note"),
    [
        (3, "", "", True, ""),
        (0, "", HALF, True, f"all left out: {HALF}"),
        (2, "", HALF, True, f"others left out: {HALF}"),
        (2, "over REST: y[0] is 1", HALF, False, f"others left out: {HALF}"),
    ],
)
def test_the_gate_of_both_transports(transports, disagree, left_out, ok, note) -> None:
    tried = Tried(REPLICA, transports=transports, transports_disagree=disagree, not_over_rest=left_out)
    gate = transports_gate([Tried(REPLICA), tried])
    assert (gate.name, gate.ok, gate.value, gate.note) == ("grpc_and_rest_disagree", ok, int(not ok), note)
