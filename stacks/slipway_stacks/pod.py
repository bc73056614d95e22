"""Pure builders of the pod: inputs in, plain manifests out, no resource made.

They give the API's own spelling (camelCase), which Pulumi takes as it is, so that what a test reads
here is what the cluster gets. Where an input is known only later, so is the value made from it.
"""

from __future__ import annotations

from typing import Any

from slipway_stacks import access, flavours, outputs
from slipway_stacks.args import is_later, lifted
from slipway_stacks.inputs import Inputs

Manifest = dict[str, Any]

PROBE_PERIOD_SECONDS = 2
# The only place of the container that can be written to
_TMP: Manifest = {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}
_TMP_MOUNT: Manifest = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108  # the pod's own emptyDir


def template(inputs: Inputs) -> Manifest:
    """The pod template."""
    names = inputs.names
    spec: Manifest = {
        "serviceAccountName": names.server,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # or each Service of the namespace becomes variables in here
        "securityContext": outputs.pod_security(),
        "terminationGracePeriodSeconds": flavours.grace_seconds(inputs),
        "topologySpreadConstraints": [spread(inputs)],
        "containers": [container(inputs)],
        "volumes": lifted(inputs.volumes, lambda more: [_TMP, *access.volumes(inputs), *more]),
    }
    for key, value in (
        (
            "imagePullSecrets",
            lifted(inputs.pull_secrets, lambda secrets: [{"name": name} for name in secrets]),
        ),
        ("nodeSelector", inputs.node_selector),
        ("tolerations", inputs.tolerations),
        ("affinity", inputs.affinity),
        ("priorityClassName", inputs.priority_class),
    ):
        if is_later(value) or value:
            spec[key] = value
    let_in = access.notes(inputs)
    notes = {
        "kubectl.kubernetes.io/default-container": names.container,
        "slipway.dev/model-name": inputs.model_name,
    }
    return {
        "metadata": {
            "labels": labels(inputs),
            "annotations": lifted(
                inputs.annotations, lambda more: {**outputs.SCRAPED, **let_in, **more, **notes}
            ),
        },
        "spec": spec,
    }


def labels(inputs: Inputs) -> Any:
    """What every object of this model carries, with what its owner adds."""
    return lifted(inputs.labels, lambda more: {**more, **inputs.names.labels})


def container(inputs: Inputs) -> Manifest:
    """The model server; the image's entrypoint carries its flags."""
    made: Manifest = {
        "name": inputs.names.container,
        "image": inputs.image,
        "imagePullPolicy": "IfNotPresent",  # by digest: what is present is what is meant
        "ports": [
            {"name": "grpc", "containerPort": outputs.GRPC_PORT, "protocol": "TCP"},
            {"name": "rest", "containerPort": outputs.REST_PORT, "protocol": "TCP"},
        ],
        **probes(inputs),
        "lifecycle": {"preStop": {"sleep": {"seconds": flavours.leaving_seconds(inputs)}}},
        "resources": resources(inputs),
        "securityContext": outputs.container_security(),
        "volumeMounts": lifted(
            inputs.volume_mounts, lambda more: [_TMP_MOUNT, *access.mounts(inputs), *more]
        ),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last log lines become the reason
    }
    env = lifted(inputs.env, lambda more: _variables({**more, **flavours.variables(inputs)}))
    args = lifted(inputs.extra_args, lambda more: [*access.arguments(inputs), *more])
    for key, value in (("args", args), ("env", env)):
        if is_later(value) or value:
            made[key] = value
    return made


def _variables(env: dict[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in sorted(env.items())]


def probes(inputs: Inputs) -> Manifest:
    """How the server is: fit to be asked once the model is loaded.

    Liveness waits for the start to be over and is patient, for a restart costs more than a slow answer.
    """
    health = flavours.health(inputs)
    return {
        "startupProbe": {
            **health,
            "periodSeconds": PROBE_PERIOD_SECONDS,
            "timeoutSeconds": PROBE_PERIOD_SECONDS,
            "failureThreshold": lifted(
                inputs.startup_seconds, lambda seconds: -(-int(seconds) // PROBE_PERIOD_SECONDS)
            ),
        },
        "readinessProbe": {
            **health,
            "periodSeconds": PROBE_PERIOD_SECONDS,
            "timeoutSeconds": PROBE_PERIOD_SECONDS,
            "failureThreshold": 2,
        },
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
    }


def resources(inputs: Inputs) -> Any:
    """Requests and limits of one replica."""
    asked = {"cpu": inputs.cpu_request, "memory": inputs.memory_request}
    most = {"memory": inputs.memory_limit}
    if inputs.cpu_limit is not None:
        most["cpu"] = inputs.cpu_limit
    return {"requests": asked, "limits": lifted([most, inputs.devices], lambda both: {**both[0], **both[1]})}


def spread(inputs: Inputs) -> Manifest:
    """Replicas evenly over nodes.

    Counts the pods of one revision (or a rolling update is held up by the old ones) and only nodes
    that take our pods (or an empty control plane, or a node that is down, counts as a place).
    """
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule" if inputs.spread == "required" else "ScheduleAnyway",
        "labelSelector": {"matchLabels": inputs.names.selector},
        "matchLabelKeys": ["pod-template-hash"],
        "nodeTaintsPolicy": "Honor",
    }
