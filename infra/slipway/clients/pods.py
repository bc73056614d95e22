"""What a pod's state means: ready or why not, gone or evicted, and which faults no waiting mends.

In: pods as read from the API server. Out: sentences and Faults. Never here: a question to the cluster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Words of a registry's answer that no second try changes. A refused login is none of them: a kubelet that is
# still reading a new pull secret pulls without it once, is refused, and has it ten seconds later.
_FINAL_PULL = (
    "not found",
    "manifest unknown",
    "x509",
    "invalid reference",
    "no such host",
    "server gave HTTP response",
    "no match for platform",
)
# Reasons of a container that is not made or started, and which of the two
_NEVER = {
    "InvalidImageName": "created",
    "ErrImageNeverPull": "created",
    "CreateContainerConfigError": "created",
    "CreateContainerError": "created",
    "RunContainerError": "started",
}
# Seconds a state must last before it counts as final; the kubelet and the scheduler try again themselves
GRACE = {
    "pull": 25.0,
    "pull for good": 0.0,
    "never": 10.0,
    "crash": 0.0,
    "place": 15.0,
    "create": 5.0,
    # other pods stand in for evicted ones: an eviction is the cause only at the deadline, or when none of
    # them finds a place
    "evict": math.inf,
}


@dataclass(frozen=True)
class Fault:
    """Why pods do not get ready.

    kind: its key in GRACE. reason: why a container last ended, e.g. OOMKilled.
    """

    kind: str
    what: str
    pod: str = ""
    node: str = ""
    container: str = ""
    message: str = ""
    action: str = ""
    reason: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What stays the same while a fault lasts, though its words count up."""
        return self.kind, self.pod, self.container


class Lasting:
    """How long each fault has been seen without a break."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str, str], float] = {}

    def final(self, faults: Sequence[Fault], now: float) -> list[Fault]:
        """Those of the faults seen at `now` (seconds) that have outlasted their grace."""
        self._since = {fault.identity: self._since.get(fault.identity, now) for fault in faults}
        return [fault for fault in faults if now - self._since[fault.identity] >= GRACE[fault.kind]]


def controller_of(item: dict[str, Any]) -> str:
    """UID of the object that controls this one; empty if none does."""
    for reference in item["metadata"].get("ownerReferences", []):
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


def is_over(pod: dict[str, Any]) -> bool:
    """Whether a pod has ended or is leaving: its ReplicaSet has replaced it and does not count it either."""
    return pod["status"].get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]


def is_evicted(pod: dict[str, Any]) -> bool:
    """Whether a kubelet ended this pod, or refused it, to get its node out of pressure."""
    status = pod["status"]
    return (status.get("phase"), status.get("reason")) == ("Failed", "Evicted")


def why_not_ready(pod: dict[str, Any]) -> str:
    """The kubelet's or the scheduler's reason why a pod is not ready; empty if it is."""
    status = pod["status"]
    conditions = {item["type"]: item for item in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    if status.get("phase") == "Failed" and status.get("reason"):  # Evicted and its like
        return ": ".join(part for part in (status["reason"], status.get("message", "").strip()) if part)
    for item in _containers(pod):
        waiting = item.get("state", {}).get("waiting", {})
        if waiting.get("reason"):
            message = waiting.get("message", "")
            return f"container {item['name']}: {waiting['reason']}{': ' + message if message else ''}"
    for kind in ("PodScheduled", "Ready"):
        condition = conditions.get(kind, {})
        if condition.get("status") == "False":
            reason, message = condition.get("reason", ""), condition.get("message", "")
            return ": ".join(part for part in (reason, message) if part) or f"{kind} is False"
    return str(status.get("phase", "unknown"))


def unplaced(pod: dict[str, Any]) -> str | None:
    """The scheduler's words when no node takes this pod, else None."""
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return str(condition.get("message", ""))
    return None


def container_faults(pod: dict[str, Any]) -> list[Fault]:
    """What keeps the containers of a pod from starting, or ends them again and again."""
    name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
    found = [_container_fault(item, name, node) for item in _containers(pod)]
    return [fault for fault in found if fault is not None]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _container_fault(item: dict[str, Any], pod: str, node: str) -> Fault | None:
    waiting = item.get("state", {}).get("waiting", {})
    reason, message, container = waiting.get("reason", ""), waiting.get("message", ""), item["name"]
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        final = any(word.lower() in message.lower() for word in _FINAL_PULL)
        return Fault(
            "pull for good" if final else "pull",
            f"the image cannot be pulled ({reason})",
            pod,
            node,
            container,
            f"{item.get('image', '')}\n{message}",
            "check that the image is in the registry (`slipway image build`), that the node reaches and "
            "trusts the registry, and that its login in the pull secret is right",
        )
    if reason in _NEVER:
        return Fault(
            "never",
            f"the container cannot be {_NEVER[reason]} ({reason})",
            pod,
            node,
            container,
            message,
            "correct what the message names",
        )
    ended = item.get("state", {}).get("terminated") or item.get("lastState", {}).get("terminated") or {}
    crashes = item.get("restartCount", 0)
    if reason == "CrashLoopBackOff" or (crashes >= 2 and not item.get("ready")):
        how = f"exit code {ended.get('exitCode', '?')}" if ended else "no exit code known"
        why = str(ended.get("reason") or reason)
        return Fault(
            "crash",
            f"the container ends again and again ({crashes} times, {why}, {how})",
            pod,
            node,
            container,
            ended.get("message", "") or message,
            "raise its memory limit" if why == "OOMKilled" else "read its last lines",
            why,
        )
    return None
