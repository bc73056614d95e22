"""Ansible filters: what of a cluster is not ready yet, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def waiting_nodes(items: Iterable[dict[str, Any]]) -> list[str]:
    """One line "node: reason" for each Node among the objects that is not ready or has no pod network."""
    out = []
    for item in items:
        if item["kind"] != "Node":
            continue
        conditions = {entry["type"]: entry for entry in item.get("status", {}).get("conditions", [])}
        for kind, wanted in (("Ready", "True"), ("NetworkUnavailable", "False")):
            entry = conditions.get(kind)
            if entry is None or entry["status"] != wanted:
                reason = entry.get("message") or entry["status"] if entry else "not reported yet"
                out.append(f"{item['metadata']['name']}: {kind}: {reason}")
    return out


def waiting_pods(items: Iterable[dict[str, Any]], node: str = "") -> list[str]:
    """One line "pod: reason" for each Pod among the objects that is not ready; of one node when it is named."""
    out = []
    for item in items:
        if item["kind"] != "Pod" or (node and item["spec"].get("nodeName") != node):
            continue
        status = item.get("status", {})
        ready = next((entry for entry in status.get("conditions", []) if entry["type"] == "Ready"), None)
        if status.get("phase") != "Succeeded" and (ready is None or ready["status"] != "True"):
            reason = (ready or {}).get("message") or status.get("phase", "not reported yet")
            out.append(f"{item['metadata']['name']}: {reason}")
    return out


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"waiting_nodes": waiting_nodes, "waiting_pods": waiting_pods}
