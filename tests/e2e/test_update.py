"""A new model version on a running deployment: every request is answered, by the old version or the new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project

pytestmark = pytest.mark.lab

NAME = "slipway-test-asking"


def asking(lab: Project, version: int) -> list[dict[str, Any]]:
    """The pod that asks the Service until `version` answers, with the rights the namespace grants."""
    image = lab.value("image")
    metadata = {"name": NAME, "namespace": "serving"}
    script = (Path(__file__).parent / "asking.py").read_text()
    container = {
        "name": "asking",
        "image": f"{image['repository']}@{image['digest']}",
        "command": ["python3", "/asking/asking.py", "mnist-service:8500", image["model_name"], str(version)],
        "env": [
            {"name": "PYTHONPATH", "value": "/opt/slipway"},
            {"name": "GRPC_DNS_RESOLVER", "value": "native"},
        ],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "asking", "mountPath": "/asking"}],
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "imagePullSecrets": [{"name": "registry-login"}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "asking", "configMap": {"name": NAME}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"asking.py": script}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
    ]


def test_a_new_version_takes_over_without_a_failed_request(lab: Project) -> None:
    old = lab.value("model")["version"]
    new = old + 1
    items = asking(lab, new)
    try:
        lab.kubectl(
            "apply", "-f", "-", input=json.dumps({"kind": "List", "apiVersion": "v1", "items": items})
        )
        lab.kubectl("wait", "-n", "serving", "--for=condition=Ready", f"pod/{NAME}", "--timeout=120s")
        done = lab.run("up", "--set", "model.seed=2")
        assert done.code == 0, done.err[-4000:]
        assert lab.value("model")["version"] == new
        ended = "--for=jsonpath={.status.phase}=Succeeded"
        lab.kubectl("wait", "-n", "serving", ended, f"pod/{NAME}", "--timeout=120s")
        counts = json.loads(lab.kubectl("logs", "-n", "serving", NAME))
    finally:
        lab.kubectl("delete", "-n", "serving", "--ignore-not-found", f"pod/{NAME}", f"configmap/{NAME}")
    assert set(counts) == {f"version {old}", f"version {new}"}, counts
    assert min(counts.values()) > 100, counts
