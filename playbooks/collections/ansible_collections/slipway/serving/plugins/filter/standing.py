"""Ansible filter: whether a workload of a cluster stands as it was last asked for."""

from __future__ import annotations

import json
from typing import Any

DOCUMENTATION = r"""
name: standing
short_description: Whether an object of a cluster stands as it was last asked for
description: >-
  Of a DaemonSet, what C(kubectl rollout status) waits for; of anything with conditions, whether it is
  Available.
positional: kind, name
options:
  _input:
    description: What C(kubectl get --output json) prints, of any kinds.
    type: str
    required: true
  kind: {description: Kind of the object., type: str, required: true}
  name: {description: Name of the object., type: str, required: true}
author: [slipway]
"""

EXAMPLES = r"""
- name: See that flannel runs everywhere
  ansible.builtin.assert:
    that: answer.stdout | slipway.serving.standing('DaemonSet', 'flannel')
"""

RETURN = r"""
_value:
  description: False also where there is no such object.
  type: bool
"""


def standing(answer: str, kind: str, name: str) -> bool:
    """Whether the object is there, is seen as it was last asked for, and runs wherever it is to."""
    for item in json.loads(answer)["items"]:
        if (item["kind"], item["metadata"]["name"]) == (kind, name):
            status = item.get("status", {})
            if kind == "DaemonSet":
                wanted = status.get("desiredNumberScheduled", -1)
                return bool(
                    status.get("observedGeneration", 0) >= item["metadata"]["generation"]
                    and status.get("updatedNumberScheduled", 0) == wanted
                    and status.get("numberAvailable", 0) == wanted
                )
            conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", [])}
            return conditions.get("Available") == "True"
    return False


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"standing": standing}
