"""Why nodes take no pod: not ready, cordoned, pressure their kubelet reports, taints.

In: nodes as read from the API server. Out: sentences, and what ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slipway.clients.kubectl import Kubectl, KubectlError

# Conditions of a node with the taint that follows from each, and what ends it
_PRESSURES = {
    "DiskPressure": (
        "node.kubernetes.io/disk-pressure",
        "free disk on the machine behind the node: its kubelet evicts pods while less is free than its "
        "threshold (evictionHard nodefs.available and imagefs.available, by default 10 % and 15 % of the "
        "disk), and takes new ones some minutes after it is over; or lower the threshold "
        "(kubernetes_node_eviction_hard of the role kubernetes_node)",
    ),
    "MemoryPressure": (
        "node.kubernetes.io/memory-pressure",
        "free memory on the machine behind the node: its kubelet evicts pods while less is free than its "
        "threshold (evictionHard memory.available, by default 100Mi)",
    ),
    "PIDPressure": (
        "node.kubernetes.io/pid-pressure",
        "end processes on the machine behind the node: its process numbers run out",
    ),
}
# The words of a kubelet that evicts a pod
_SHORT_OF = {
    "DiskPressure": ("low on resource: ephemeral-storage", "low on resource: inodes"),
    "MemoryPressure": ("low on resource: memory",),
    "PIDPressure": ("low on resource: pids",),
}
_TAINTS = {taint: condition for condition, (taint, _) in _PRESSURES.items()}
# On every control plane that has workers beside it
_USUAL = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
# Taints that say again what the node's own state says
_UNREADY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_WISH = ":PreferNoSchedule"
_CORDONED = "node.kubernetes.io/unschedulable"


@dataclass(frozen=True)
class Trouble:
    """What keeps pods off one node.

    unready: why it is not ready, empty if it is. cordoned: whether somebody took it out of service.
    pressures: DiskPressure and its like. taints: the others, as KEY=VALUE:EFFECT, where PreferNoSchedule is
    no more than a wish.
    """

    node: str
    unready: str
    cordoned: bool
    pressures: tuple[str, ...]
    taints: tuple[str, ...]

    @property
    def acute(self) -> bool:
        """Whether the node would take pods again once something has ended; a taint may be there for good."""
        return bool(self.unready or self.cordoned or self.pressures)

    @property
    def words(self) -> list[str]:
        """What is wrong, e.g. [is cordoned, has DiskPressure, has taint example.com/gpu:NoSchedule]."""
        out = [f"is not ready: {self.unready}"] if self.unready else []
        out += ["is cordoned"] if self.cordoned else []
        held = [*self.pressures, *(f"taint {one}" for one in self.taints)]
        return [*out, f"has {', '.join(held)}"] if held else out

    @property
    def sentence(self) -> str:
        """The trouble for people, e.g. node worker-1 has DiskPressure, taint example.com/gpu:NoSchedule."""
        return f"node {self.node} {'; '.join(self.words)}"


def read(kubectl: Kubectl) -> list[Trouble]:
    """The nodes in trouble; none if this user may not list nodes, for they only explain what is seen."""
    try:
        return troubles(kubectl.get("nodes", timeout=10)["items"])
    except KubectlError:
        return []


def troubles(nodes: Sequence[dict[str, Any]]) -> list[Trouble]:
    """The nodes that pods are kept off, from nodes as read."""
    return [trouble for node in nodes if (trouble := _of(node)).words]


def _of(node: dict[str, Any]) -> Trouble:
    conditions = {item["type"]: item for item in node.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready", {})
    unready = ""
    if ready.get("status") != "True" and ready:
        unready = ready.get("message") or ready.get("reason") or f"Ready is {ready.get('status')}"
    pressures = [kind for kind in _PRESSURES if conditions.get(kind, {}).get("status") == "True"]
    taints = []
    cordoned = bool(node.get("spec", {}).get("unschedulable"))
    for taint in node.get("spec", {}).get("taints", []):
        key = taint["key"]
        if key in _TAINTS:  # it comes and goes some seconds after its condition
            pressures.append(_TAINTS[key])
        elif key == _CORDONED:
            cordoned = True
        elif key not in _USUAL and not (unready and key in _UNREADY):
            value = f"={taint['value']}" if taint.get("value") else ""
            taints.append(f"{key}{value}:{taint['effect']}")
    return Trouble(
        node["metadata"]["name"], unready, cordoned, tuple(dict.fromkeys(pressures)), tuple(taints)
    )


def actions(found: Sequence[Trouble], words: str = "") -> list[str]:
    """What ends these troubles. words: the scheduler's or kubelet's, for users who may not read nodes."""
    out = [
        action
        for pressure, (taint, action) in _PRESSURES.items()
        if any(pressure in one.pressures for one in found)
        or any(word in words for word in (pressure, taint, *_SHORT_OF[pressure]))
    ]
    for one in found:
        if one.unready:
            out.append(f"see what is wrong with {one.node}: `kubectl describe node {one.node}`")
        if one.cordoned:
            out.append(f"take {one.node} into service again: `kubectl uncordon {one.node}`")
        out += [_taint_action(one.node, taint) for taint in one.taints if not taint.endswith(_WISH)]
    return list(dict.fromkeys(out))


def _taint_action(node: str, taint: str) -> str:
    key = taint.partition(":")[0].partition("=")[0]
    if key.startswith("node.kubernetes.io/"):  # not-ready and its like: Kubernetes takes them away itself
        return f"see what is wrong with {node}: `kubectl describe node {node}`"
    return f"if {node} is meant for these pods too, take its taint away: `kubectl taint nodes {node} {key}-`"
