"""Ansible filter: which nodes of a cluster are not ready yet, and why."""

from __future__ import annotations

import json
from typing import Any

DOCUMENTATION = r"""
name: waiting_nodes
short_description: Nodes that are not ready yet
description: >-
  One line "node: condition: reason" for each condition that keeps a Node from being used, which are Ready and
  NetworkUnavailable.
positional: name
options:
  _input:
    description: What C(kubectl get --output json) prints, of any kinds.
    type: str
    required: true
  name:
    description: Only the node of this name.
    type: str
    default: ""
author: [slipway]
"""

EXAMPLES = r"""
- name: See that every node is ready
  ansible.builtin.assert:
    that: answer.stdout | slipway.serving.waiting_nodes | length == 0
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def waiting_nodes(answer: str, name: str = "") -> list[str]:
    """One line "node: condition: reason" for each condition that keeps a Node from being used."""
    out = []
    for item in json.loads(answer)["items"]:
        if item["kind"] != "Node" or name not in ("", item["metadata"]["name"]):
            continue
        conditions = {entry["type"]: entry for entry in item.get("status", {}).get("conditions", [])}
        for kind, wanted in (("Ready", "True"), ("NetworkUnavailable", "False")):
            entry = conditions.get(kind)
            if entry is None or entry["status"] != wanted:
                reason = entry.get("message") or entry["status"] if entry else "not reported yet"
                out.append(f"{item['metadata']['name']}: {kind}: {reason}")
    return out


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"waiting_nodes": waiting_nodes}
