"""Ansible filter: what brings a node to a version of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: upgrade_steps
short_description: What brings a node to a version of Kubernetes
description: >-
  Which steps are left for a node, by what it has. An upgrade that was cut short goes on from there. None for
  a node that has not joined, or that has this version.
positional: wanted
options:
  _input: {description: Facts C(slipway_host) of the node., type: dict, required: true}
  wanted: {description: "The version asked for, as 1.37.2.", type: str, required: true}
  alone: {description: Whether there is no other node its pods could move to., type: bool, default: false}
author: [slipway]
"""

EXAMPLES = r"""
- name: Take a snapshot
  ansible.builtin.include_tasks: keep.yml
  when: "'snapshot' in ansible_facts.slipway_host | slipway.serving.upgrade_steps('1.37.2')"
"""

RETURN = r"""
_value:
  description: >-
    Of keep, snapshot, drain, kubeadm, control_plane (C(kubeadm upgrade apply)), node
    (C(kubeadm upgrade node)), kubelet and uncordon those that are left, in this order.
  type: list
  elements: str
"""


def upgrade_steps(facts: Mapping[str, Any], wanted: str, alone: bool = False) -> list[str]:
    """The names of the steps, in order."""
    if not facts.get("joined"):
        return []
    leads = bool(facts.get("api_server"))
    server, kubelet = leads and facts["api_server"] != wanted, facts.get("kubelet") != wanted
    moves = server or kubelet
    left = {
        "keep": moves,
        "snapshot": server,
        "drain": moves and not alone,
        "kubeadm": facts.get("kubeadm") != wanted,
        "control_plane": server,
        "node": kubelet and not leads,
        # also where the program is there and a run was cut short before it was started
        "kubelet": kubelet or bool(facts.get("upgrading")),
        "uncordon": moves or bool(facts.get("upgrading")),
    }
    return [step for step, due in left.items() if due]


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_steps": upgrade_steps}
