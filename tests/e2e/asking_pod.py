"""A pod that asks the Service from inside the cluster: one of the scripts of this folder in the serving image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.conftest import Project


def asking_pod(lab: Project, name: str, script: str, *words: str) -> dict[str, Any]:
    """The List of a pod and its ConfigMap, both called `name`, with the rights the namespace grants.

    It runs script.py of this folder with the Service's address, the model's name and these words.
    """
    image = lab.value("image")
    metadata = {"name": name, "namespace": "serving"}
    container = {
        "name": script,
        "image": f"{image['repository']}@{image['digest']}",
        "command": [
            *("python3", f"/{script}/{script}.py", "mnist-service:8500", image["model_name"]),
            *words,
        ],
        "env": [
            {"name": "PYTHONPATH", "value": "/opt/slipway"},
            {"name": "GRPC_DNS_RESOLVER", "value": "native"},
        ],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": script, "mountPath": f"/{script}"}],
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "imagePullSecrets": [{"name": "registry-login"}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": script, "configMap": {"name": name}}],
    }
    text = (Path(__file__).parent / f"{script}.py").read_text()
    return {
        "kind": "List",
        "apiVersion": "v1",
        "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {f"{script}.py": text}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        ],
    }
