"""The autoscaler on slipway's own cluster: replicas come under load and go after it, and every request is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.asking_pod import asking_pod
from tests.e2e.conftest import Project

pytestmark = pytest.mark.lab

NAME = "slipway-test-loading"
LEAST, MOST = 3, 5
# Low, for the lab's load is small beside what a busy machine lets a replica have
SCALING = {"max_replicas": MOST, "target_cpu": 20, "scale_down_seconds": 0}


def until(lab: Project, holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds; else the test fails with what the autoscaler says."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"{what}:\n{lab.kubectl('describe', 'hpa', '-n', 'serving')}")
        time.sleep(2)


def there(lab: Project) -> set[str]:
    """Names of the replicas, those that are leaving included."""
    items = lab.get("pods", "-n", "serving", "-l", "app=mnist-server")["items"]
    return {pod["metadata"]["name"] for pod in items}


def ready(lab: Project) -> int:
    return int(lab.get("deployment", "mnist-deployment", "-n", "serving")["status"].get("readyReplicas", 0))


@pytest.fixture
def scaled(lab: Project) -> Iterator[Project]:
    """The lab with an autoscaler for as long as the test runs, and with a pod that loads the Service."""
    words = [word for key, value in SCALING.items() for word in ("--set", f"deploy.{key}={value}")]
    try:
        done = lab.run("deploy", *words, limit=300)
        assert done.code == 0, done.err[-4000:]
        assert "nothing in the cluster measures pods" not in done.err
        lab.kubectl("apply", "-f", "-", input=json.dumps(asking_pod(lab, NAME, "loading")))
        lab.kubectl("wait", "-n", "serving", "--for=condition=Ready", f"pod/{NAME}", "--timeout=120s")
        yield lab
    finally:
        lab.kubectl("delete", "-n", "serving", "--ignore-not-found", f"pod/{NAME}", f"configmap/{NAME}")
        assert lab.run("deploy", limit=300).code == 0


@pytest.mark.timeout(600)
def test_replicas_come_under_load_and_go_after_it_and_every_request_is_answered(scaled: Project) -> None:
    lab = scaled
    until(lab, lambda: ready(lab) > LEAST, 120, "no replica has come in two minutes of load")
    told = lab.kubectl("top", "pods", "-n", "serving", "--no-headers").splitlines()
    assert there(lab) & {line.split()[0] for line in told}
    lab.kubectl("exec", "-n", "serving", NAME, "--", "touch", "/tmp/calm")  # the pod's own
    until(lab, lambda: len(there(lab)) == LEAST, 120, "replicas have not gone two minutes after the load")
    lab.kubectl("exec", "-n", "serving", NAME, "--", "touch", "/tmp/done")  # the pod's own
    lab.kubectl(
        "wait", "-n", "serving", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{NAME}", "--timeout=60s"
    )
    counts = json.loads(lab.kubectl("logs", "-n", "serving", NAME))
    assert set(counts) == {"answered"}, counts
    assert counts["answered"] > 500
