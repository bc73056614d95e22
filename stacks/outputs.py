"""Names the program sets and others look for: objects, labels, ports, outputs of the stack.

Imports nothing, so that whoever needs a name does not load Pulumi for it.
"""

from __future__ import annotations

from typing import Final

PROJECT: Final = "slipway"

DEPLOYMENT: Final = "mnist-deployment"
CONTAINER: Final = "mnist-container"
SERVICE: Final = "mnist-service"
# a headless Service: its name resolves to every ready replica instead of one address for all
REPLICAS: Final = "mnist-replicas"
SERVICE_ACCOUNT: Final = "mnist-server"
DISRUPTION_BUDGET: Final = "mnist-server"
NETWORK_POLICY: Final = "mnist-server"
AUTOSCALER: Final = "mnist-server"

GRPC_PORT: Final = 8500
REST_PORT: Final = 8501

SELECTOR: Final = {"app": "mnist-server"}
LABELS: Final = {**SELECTOR, "run": SERVICE, "app.kubernetes.io/part-of": PROJECT}

# The pods meet the strictest of Kubernetes' own profiles, so the namespace asks for it.
NAMESPACE_LABELS: Final = {
    "app.kubernetes.io/part-of": PROJECT,
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}

# Outputs of the stack, `pulumi stack output NAME`.
OUTPUTS: Final = ("namespace", "deployment", "service", "replicas", "grpcPort", "restPort", "image")
