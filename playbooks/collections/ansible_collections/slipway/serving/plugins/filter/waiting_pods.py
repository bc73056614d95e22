"""Ansible filter: which pods of a cluster are not ready yet, and why."""

from __future__ import annotations

import json
from typing import Any

DOCUMENTATION = r"""
name: waiting_pods
short_description: Pods that are not ready yet
description: >-
  One line "pod: reason" for each Pod that is neither ready nor done.
positional: node
options:
  _input:
    description: What C(kubectl get --output json) prints, of any kinds.
    type: str
    required: true
  node:
    description: Only pods of the node of this name.
    type: str
    default: ""
author: [slipway]
"""

EXAMPLES = r"""
- name: See that the pods of this node are ready
  ansible.builtin.assert:
    that: answer.stdout | slipway.serving.waiting_pods(inventory_hostname) | length == 0
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def waiting_pods(answer: str, node: str = "") -> list[str]:
    """One line "pod: reason" for each Pod that is neither ready nor done; of one node when it is named."""
    out = []
    for item in json.loads(answer)["items"]:
        if item["kind"] != "Pod" or (node and item["spec"].get("nodeName") != node):
            continue
        status = item.get("status", {})
        conditions = {entry["type"]: entry for entry in status.get("conditions", [])}
        ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
        if status.get("phase") != "Succeeded" and ready.get("status") != "True":
            # one that no node takes has nothing to say of being ready
            told = ready.get("message") or scheduled.get("message")
            reason = told or status.get("phase", "not reported yet")
            out.append(f"{item['metadata']['name']}: {reason}")
    return out


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"waiting_pods": waiting_pods}
