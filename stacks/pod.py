"""Pure builders of the pod: values in, plain manifests out, no resource made.

They give the API's own spelling (camelCase), which Pulumi takes as it is, so that what a test reads
here is what the cluster gets.
"""

from __future__ import annotations

from typing import Any

from stacks import outputs
from stacks.inputs import Inputs

Manifest = dict[str, Any]

# Nobody in particular: the number distroless images use for "nonroot", and no user of the host.
USER = 65532
# After a pod is told to end, its address is still in other nodes' tables for a moment: it goes on
# serving that long before the server hears of it, so that a rolling update loses no request.
LEAVE_SECONDS = 5
PROBE_PERIOD_SECONDS = 2


def template(inputs: Inputs, image: Any) -> Manifest:
    """The pod template. image may be an Output; everything else is known before the program runs."""
    spec: Manifest = {
        "serviceAccountName": outputs.SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # or each Service of the namespace becomes variables in here
        "securityContext": pod_security(),
        "terminationGracePeriodSeconds": LEAVE_SECONDS + inputs.drain_seconds,
        "topologySpreadConstraints": [spread(inputs)],
        "containers": [container(inputs, image)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
    }
    if inputs.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": inputs.pull_secret}]
    return {
        "metadata": {
            "labels": dict(outputs.LABELS),
            "annotations": {
                "kubectl.kubernetes.io/default-container": outputs.CONTAINER,
                "slipway.dev/model-name": inputs.model_name,
            },
        },
        "spec": spec,
    }


def container(inputs: Inputs, image: Any) -> Manifest:
    """The model server; the image's entrypoint carries its flags."""
    return {
        "name": outputs.CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",  # by digest: what is present is what is meant
        "ports": [
            {"name": "grpc", "containerPort": outputs.GRPC_PORT, "protocol": "TCP"},
            {"name": "rest", "containerPort": outputs.REST_PORT, "protocol": "TCP"},
        ],
        **probes(inputs),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        "resources": resources(inputs),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  # the pod's own emptyDir
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last log lines become the reason
    }


def probes(inputs: Inputs) -> Manifest:
    """gRPC health on the serving port: it says SERVING once the model is loaded and can be asked.

    Liveness waits for the start to be over and is patient, for a restart costs more than a slow answer.
    """
    health = {"grpc": {"port": outputs.GRPC_PORT, "service": ""}}
    return {
        "startupProbe": {
            **health,
            "periodSeconds": PROBE_PERIOD_SECONDS,
            "timeoutSeconds": PROBE_PERIOD_SECONDS,
            "failureThreshold": -(-inputs.startup_seconds // PROBE_PERIOD_SECONDS),
        },
        "readinessProbe": {
            **health,
            "periodSeconds": PROBE_PERIOD_SECONDS,
            "timeoutSeconds": PROBE_PERIOD_SECONDS,
            "failureThreshold": 2,
        },
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
    }


def resources(inputs: Inputs) -> Manifest:
    """Requests and limits of one replica."""
    limits = {"memory": inputs.memory_limit}
    if inputs.cpu_limit is not None:
        limits["cpu"] = inputs.cpu_limit
    return {"requests": {"cpu": inputs.cpu_request, "memory": inputs.memory_request}, "limits": limits}


def pod_security() -> Manifest:
    """What holds for every container of the pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """No privilege, no capability, nothing to write to but the volumes."""
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def spread(inputs: Inputs) -> Manifest:
    """Replicas evenly over nodes.

    Counts the pods of one revision (or a rolling update is held up by the old ones) and only nodes
    that take our pods (or an empty control plane, or a node that is down, counts as a place).
    """
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule" if inputs.spread == "required" else "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(outputs.SELECTOR)},
        "matchLabelKeys": ["pod-template-hash"],
        "nodeTaintsPolicy": "Honor",
    }
