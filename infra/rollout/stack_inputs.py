"""Settings, image and registry -> inputs of the stack. The mapping between their names is here alone."""

from __future__ import annotations

from infra.core.schema import Settings
from infra.core.types import ImageRef, Registry
from infra.rollout.applying import PULL_SECRET


def config(settings: Settings, image: ImageRef, registry: Registry | None) -> dict[str, str]:
    """The stack's configuration: what somebody set, and nothing that has its default in stacks/inputs.py.

    registry: the one nodes pull from, None where nothing is known of it. The namespace is made by the
    deploy stage, not by the stack: the pull secret must be in it first, and a stack that owns a namespace
    takes everything in it along when it is destroyed.
    """
    wanted = {
        "image": image.reference,
        "modelName": image.model_name,
        "createNamespace": "false",
        "namespace": settings.deploy.namespace,
        "replicas": settings.deploy.replicas,
        "serviceType": settings.deploy.service_type,
        "pullSecret": PULL_SECRET if registry is not None and registry.username is not None else None,
    }
    return {key: str(value) for key, value in wanted.items() if value is not None}
