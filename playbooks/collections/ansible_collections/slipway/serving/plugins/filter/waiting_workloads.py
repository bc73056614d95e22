"""Ansible filter: workloads of a cluster that do not stand whole."""

from __future__ import annotations

import json
from typing import Any

DOCUMENTATION = r"""
name: waiting_workloads
short_description: Workloads that do not stand whole
description: >-
  One line for each Deployment, StatefulSet and DaemonSet that has fewer pods ready, of what it was last asked
  for, than it is to have. Their pods' readiness probes say what ready is.
positional: but
options:
  _input:
    description: What C(kubectl get deployments,statefulsets,daemonsets --output json) prints.
    type: str
    required: true
  but:
    description: Lines, as this filter gives them, of workloads that did not stand before; they do not count.
    type: list
    elements: str
    default: []
author: [slipway]
"""

EXAMPLES = r"""
- name: See that everything runs
  ansible.builtin.assert:
    that: answer.stdout | slipway.serving.waiting_workloads | length == 0
"""

RETURN = r"""
_value:
  description: "The lines, as serving/Deployment/mnist: 1 of 3 ready."
  type: list
  elements: str
"""


def waiting_workloads(answer: str, but: list[str] | None = None) -> list[str]:
    """The lines, in the order of the answer."""
    before = {line.partition(":")[0] for line in but or []}
    out = []
    for item in json.loads(answer)["items"]:
        name = "/".join([item["metadata"]["namespace"], item["kind"], item["metadata"]["name"]])
        status = item.get("status", {})
        if item["kind"] == "DaemonSet":
            wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
            updated = status.get("updatedNumberScheduled", 0)
        else:
            wanted, ready = item["spec"].get("replicas", 1), status.get("readyReplicas", 0)
            updated = status.get("updatedReplicas", 0)
        seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        if name not in before and (not seen or min(ready, updated) < wanted):
            out.append(f"{name}: {min(ready, updated)} of {wanted} ready")
    return out


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"waiting_workloads": waiting_workloads}
