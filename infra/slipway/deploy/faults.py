"""Everything that holds a rollout up: pods that are not made, find no place, do not start or were evicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slipway.clients.nodes import Trouble, actions, troubles
from slipway.clients.pods import GRACE, Fault, container_faults, controller_of, is_evicted, unplaced


def faults(
    deployment: dict[str, Any],
    sets: Sequence[dict[str, Any]],
    pods: Sequence[dict[str, Any]],
    nodes: Sequence[dict[str, Any]] = (),
) -> list[Fault]:
    """Everything that holds this rollout up, from objects as read; the worst first.

    nodes: empty if they were not asked for or may not be listed.
    """
    out: list[Fault] = []
    conditions = {item["type"]: item for item in deployment.get("status", {}).get("conditions", [])}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        out.append(_not_created(failure.get("message", "")))
    own = {item["metadata"]["uid"] for item in sets if controller_of(item) == deployment["metadata"]["uid"]}
    present = [
        pod for pod in pods if controller_of(pod) in own and "deletionTimestamp" not in pod["metadata"]
    ]
    found = troubles(nodes)
    evicted = [pod for pod in present if is_evicted(pod)]
    for pod in present:
        if is_evicted(pod):
            continue
        out += map(_advised, container_faults(pod))
        if (message := unplaced(pod)) is not None:
            out.append(_not_placed(pod, message, found, evicted))
    # a pod evicted from a node that is well again no longer matters
    pressed = {trouble.node for trouble in found if trouble.pressures}
    evicted = [pod for pod in evicted if not nodes or pod["spec"].get("nodeName", "") in pressed]
    if evicted:
        out.append(_evicted(evicted, found))
    order = list(GRACE)
    return sorted(out, key=lambda fault: order.index(fault.kind))


def _advised(fault: Fault) -> Fault:
    """A container's fault, with what ends it in a model server that the stack made."""
    if fault.kind != "crash":
        return fault
    if fault.reason == "OOMKilled":
        return replace(fault, action="raise deploy.memory_limit")
    action = "read its last lines above; `slipway image build` runs the same image under Docker"
    return replace(fault, action=action)


def _not_created(message: str) -> Fault:
    if "exceeded quota" in message:
        action = (
            "raise the namespace's ResourceQuota, or ask for less (deploy.replicas, deploy.memory_request)"
        )
    elif "violates PodSecurity" in message:
        action = "the namespace's pod security profile refuses the pod; label the namespace otherwise"
    else:
        action = "the cluster refuses to create the pods; its policy or webhook is named above"
    return Fault("create", "the cluster does not create the pods", message=message, action=action)


def _not_placed(
    pod: dict[str, Any], message: str, found: Sequence[Trouble], evicted: Sequence[dict[str, Any]]
) -> Fault:
    lines = [message, *(trouble.sentence for trouble in found), *_evictions(evicted)]
    known = actions(found, "\n".join(lines))
    known.append(
        "add or free nodes, ask for less (deploy.memory_request, deploy.cpu_request, deploy.replicas), "
        "or allow an uneven spread (stack input spread: preferred)"
    )
    acute = "; ".join(replace(one, taints=()).sentence.removeprefix("node ") for one in found if one.acute)
    return Fault(
        "place",
        "no node takes the pod" + (f": {acute}" if acute else ""),
        pod=pod["metadata"]["name"],
        message="\n".join(lines),
        action="; or ".join(known),
    )


def _evicted(pods: Sequence[dict[str, Any]], found: Sequence[Trouble]) -> Fault:
    """One fault for all evicted pods, because a node that evicts one evicts many."""
    lines = [*(trouble.sentence for trouble in found if trouble.pressures), *_evictions(pods)]
    known = actions([trouble for trouble in found if trouble.pressures], "\n".join(lines))
    return Fault(
        "evict",
        f"{len(pods)} pod{'s were' if len(pods) > 1 else ' was'} evicted",
        pod=pods[-1]["metadata"]["name"],
        node=pods[-1]["spec"].get("nodeName", ""),
        message="\n".join(lines),
        action="; or ".join(known) or "free on the node what the message says it is short of",
    )


def _evictions(pods: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each of the last evicted pods, in the kubelet's words."""
    return [
        f"{pod['metadata']['name']} was evicted from {pod['spec'].get('nodeName') or 'its node'}: "
        f"{pod['status'].get('message', '').strip()}"
        for pod in pods[-5:]
    ]
