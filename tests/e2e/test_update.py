"""A new model version on a running deployment: requests are answered, by the old version or the new."""

from __future__ import annotations

import json

import pytest

from tests.e2e.asking_pod import asking_pod
from tests.e2e.conftest import Project

pytestmark = [pytest.mark.lab, pytest.mark.soak]

NAME = "slipway-test-asking"


def test_a_new_version_takes_over_while_it_is_asked(lab: Project) -> None:
    old = lab.value("model")["version"]
    new = old + 1
    pod = asking_pod(lab, NAME, "asking", str(new))
    try:
        lab.kubectl("apply", "-f", "-", input=json.dumps(pod))
        lab.kubectl("wait", "-n", "serving", "--for=condition=Ready", f"pod/{NAME}", "--timeout=120s")
        done = lab.run("up", "--set", "model.seed=2")
        assert done.code == 0, done.err[-4000:]
        assert lab.value("model")["version"] == new
        ended = "--for=jsonpath={.status.phase}=Succeeded"
        lab.kubectl("wait", "-n", "serving", ended, f"pod/{NAME}", "--timeout=120s")
        counts = json.loads(lab.kubectl("logs", "-n", "serving", NAME))
    finally:
        lab.kubectl("delete", "-n", "serving", "--ignore-not-found", f"pod/{NAME}", f"configmap/{NAME}")
    versions = {f"version {old}", f"version {new}"}
    assert set(counts["fresh"]) == versions, counts
    # What arrives on a kept connection in the instant its server closes is CANCELLED: gRPC's core drops
    # calls nobody has picked up yet. Each connection has one request under way, and meets each replica once.
    dropped = counts["kept"].pop("CANCELLED: CANCELLED", 0)
    assert set(counts["kept"]) == versions, counts
    assert dropped <= 2 * 3, counts
    assert min(counts["kept"].values()) > 100, counts
