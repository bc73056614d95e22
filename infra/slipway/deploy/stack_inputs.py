"""Settings, image and registry -> inputs of the stack. The mapping between their names lives only here."""

from __future__ import annotations

import json

from slipway.core.registries import PULL_SECRET
from slipway.core.schema import Settings
from slipway.core.types import ImageRef, Registry


def config(settings: Settings, image: ImageRef, registry: Registry | None) -> dict[str, str]:
    """The stack's configuration: only what somebody set; defaults stay in stacks/slipway_stacks/inputs.py.

    registry: the one nodes pull from, None if it is not known. The namespace is made by the
    deploy stage, not by the stack: the pull secret must be in it first, and a stack that owns a namespace
    takes everything in it along when it is destroyed.
    """
    wanted = {
        "image": image.reference,
        "modelName": image.model_name,
        "server": image.server,
        "createNamespace": "false",
        "namespace": settings.deploy.namespace,
        "replicas": settings.deploy.replicas,
        "maxReplicas": settings.deploy.max_replicas,
        "targetCpu": settings.deploy.target_cpu,
        "scaleDownSeconds": settings.deploy.scale_down_seconds,
        "memoryRequest": settings.deploy.memory_request,
        "memoryLimit": settings.deploy.memory_limit,
        "cpuRequest": settings.deploy.cpu_request,
        "cpuLimit": settings.deploy.cpu_limit,
        "podMonitor": _truth(settings.deploy.pod_monitor),
        "tlsSecret": settings.deploy.tls_secret,
        "tlsClients": _truth(settings.deploy.tls_clients),
        "tokenSecret": settings.deploy.token_secret,
        "serviceType": settings.deploy.service_type,
        "gateway": settings.deploy.gateway,
        "gatewayNamespace": settings.deploy.gateway_namespace,
        "restHostname": settings.deploy.rest_hostname,
        "grpcHostname": settings.deploy.grpc_hostname,
        "restListener": settings.deploy.rest_listener,
        "grpcListener": settings.deploy.grpc_listener,
        "pullSecrets": json.dumps([PULL_SECRET])
        if registry is not None and registry.username is not None
        else None,
    }
    return {key: str(value) for key, value in wanted.items() if value is not None}


def _truth(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()
