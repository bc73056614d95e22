"""What tells afterwards why a deployment failed, as the cluster can be asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.clients.pods import why_not_ready
from slipway.core.evidence import READING_SECONDS, Reading

MOST = 40  # pods


def readings(kubectl: Kubectl, namespace: str) -> list[Reading]:
    """Objects, events, descriptions and pods' logs, never a secret; pods that are not ready first.

    Of more than MOST pods as many are described and their logs read.
    """
    here = ["-n", namespace]
    every = sorted(_pods(kubectl, namespace), key=lambda pod: not why_not_ready(pod))
    pods = every[:MOST]
    described = [["describe", "deployment,replicaset,pod,service", *here]]
    if len(every) > MOST:  # each pod is some questions more
        names = [pod["metadata"]["name"] for pod in pods]
        described = [["describe", "deployment,replicaset,service", *here], ["describe", "pod", *names, *here]]
    kinds = "deployment,replicaset,pod,service,endpointslice,pdb,hpa"
    out = [
        _reading(kubectl, "objects.yaml", ["get", kinds, "-o", "yaml", *here]),
        _reading(kubectl, "events.txt", ["get", "events", "--sort-by=.metadata.creationTimestamp", *here]),
        *(
            _reading(kubectl, name, args)
            for name, args in zip(("describe.txt", "describe-pods.txt"), described, strict=False)
        ),
        _reading(kubectl, "nodes.txt", ["describe", "nodes"]),
    ]
    for name, args in _logs(pods):
        out.append(_reading(kubectl, name, ["logs", "--all-containers", "--tail=2000", *args, *here]))
    return out


def _pods(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = kubectl.get("pods", namespace=namespace, timeout=READING_SECONDS / 2)[
            "items"
        ]
    except KubectlError:  # it is told by the other readings
        return []
    return found


def _logs(pods: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """(file, arguments) of the logs that there are: of containers that started, and of those before them."""
    for pod in pods:
        name = pod["metadata"]["name"]
        containers = pod.get("status", {}).get("containerStatuses", [])
        states = [container.get("state", {}) for container in containers]
        if any("running" in state or "terminated" in state for state in states):
            yield f"{name}.log", [name]
        if any("terminated" in container.get("lastState", {}) for container in containers):
            yield f"{name}.previous.log", [name, "--previous"]


def _reading(kubectl: Kubectl, name: str, args: list[str]) -> Reading:
    return Reading(f"deploy/{name}", lambda seconds: kubectl.run(args, timeout=seconds).stdout)
