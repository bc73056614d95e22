"""Routes of the Gateway API: how a model is reached through a Gateway that stands in the cluster already.

Gateways are made by those who own addresses and certificates, so the component makes none: TLS is a matter of
the Gateway's listener, and the routes say which listener they want. Source: gateway-api.sigs.k8s.io, API v1.
"""

from __future__ import annotations

from typing import Any, Final

from slipway_stacks import outputs
from slipway_stacks.inputs import Inputs

API: Final = "gateway.networking.k8s.io/v1"

# What clients ask, of all that the server serves: metrics stay inside, and so does the call that tells the
# server to load other models.
REST_PATH: Final = "/v1/models"
_GRPC_METHODS: Final = (
    {"service": "tensorflow.serving.PredictionService"},
    {"service": "tensorflow.serving.ModelService", "method": "GetModelStatus"},
    {"service": "grpc.health.v1.Health"},
)


def rest_spec(inputs: Inputs) -> Any:
    """The HTTPRoute's spec: the model's REST API, by path and host name."""
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": REST_PATH}}],
        "backendRefs": [_backend(inputs, outputs.REST_PORT)],
    }
    return _spec(inputs, inputs.rest_listener, inputs.rest_hostname, rule)


def grpc_spec(inputs: Inputs) -> Any:
    """The GRPCRoute's spec: the services that clients call, by host name."""
    rule = {
        "matches": [{"method": {"type": "Exact", **method}} for method in _GRPC_METHODS],
        "backendRefs": [_backend(inputs, outputs.GRPC_PORT)],
    }
    return _spec(inputs, inputs.grpc_listener, inputs.grpc_hostname, rule)


def _backend(inputs: Inputs, port: int) -> dict[str, Any]:
    return {"name": inputs.names.service, "port": port}


def _spec(inputs: Inputs, listener: Any, hostname: Any, rule: dict[str, Any]) -> dict[str, Any]:
    parent = {"name": inputs.gateway}
    for key, value in (("namespace", inputs.gateway_namespace), ("sectionName", listener)):
        if value is not None:
            parent[key] = value
    spec: dict[str, Any] = {"parentRefs": [parent], "rules": [rule]}
    if hostname is not None:
        spec["hostnames"] = [hostname]
    return spec
