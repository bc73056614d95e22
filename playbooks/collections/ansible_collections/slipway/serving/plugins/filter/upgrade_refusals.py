"""Ansible filter: why a cluster is not upgraded to a version of Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: upgrade_refusals
short_description: Why nodes are not upgraded to a version of Kubernetes
description: >-
  Kubernetes is upgraded one minor version at a time, the control plane before its nodes, and never back. One
  line for each node, or for the cluster, that this version would break.
positional: wanted
options:
  _input:
    description: Name of each node to its facts C(slipway_host); those that have not joined do not count.
    type: dict
    required: true
  wanted: {description: "The version asked for, as 1.37.2.", type: str, required: true}
author: [slipway]
"""

EXAMPLES = r"""
- name: See that the upgrade is one
  ansible.builtin.assert:
    that: nodes | slipway.serving.upgrade_refusals('1.37.2') | length == 0
"""

RETURN = r"""
_value:
  description: The lines; none where nothing is to be upgraded.
  type: list
  elements: str
"""


def upgrade_refusals(nodes: Mapping[str, Mapping[str, Any]], wanted: str) -> list[str]:
    """Lines that say what is refused and what to set instead."""
    there = {name: facts for name, facts in nodes.items() if facts.get("joined")}
    if not there:
        return []
    asked = _numbers(wanted)
    if asked is None:
        return [f"kube_version is {wanted}; expected a version of three numbers, as 1.37.2"]
    servers = {name: facts["api_server"] for name, facts in there.items() if facts.get("api_server")}
    if not servers:
        behind = sorted(name for name, facts in there.items() if facts.get("kubelet") != wanted)
        return [_ALONE.format(", ".join(behind), wanted)] if behind else []
    lines = [_server(name, runs, asked, wanted) for name, runs in servers.items()]
    lines = [line for line in lines if line] or [
        _node(name, facts.get("kubelet", ""), asked, wanted) for name, facts in there.items()
    ]
    return [line for line in lines if line]


_ALONE = "{}: not upgraded to Kubernetes {} without the control plane, which comes first; leave --limit away"


def _server(name: str, runs: str, asked: tuple[int, int, int], wanted: str) -> str:
    now = _numbers(runs)
    if now is None:
        return ""
    said = f"{name}: the cluster runs Kubernetes {runs}, and kube_version is {wanted}"
    if asked < now:
        return (
            f"{said}: a cluster does not go back; set kube_version to {runs}, or put back the snapshot from "
            "before its upgrade (restore.yml, docs/cluster.md)"
        )
    if asked[0] != now[0] or asked[1] > now[1] + 1:
        return (
            f"{said}: it is upgraded one minor version at a time; set kube_version to a "
            f"{now[0]}.{now[1] + 1} first"
        )
    return ""


def _node(name: str, runs: str, asked: tuple[int, int, int], wanted: str) -> str:
    now = _numbers(runs)
    if now is None:
        return ""
    if now > asked:
        return (
            f"{name}: its kubelet is {runs}, newer than {wanted}, and no kubelet may be newer than its API "
            "server; put back what its upgrade kept (restore.yml, docs/cluster.md)"
        )
    if asked[1] > now[1] + 1:
        return (
            f"{name}: its kubelet is {runs}, and kube_version is {wanted}: a node is upgraded one minor "
            f"version at a time; set kube_version to a {now[0]}.{now[1] + 1} first, or take the node out and "
            "let it join anew"
        )
    return ""


def _numbers(version: str) -> tuple[int, int, int] | None:
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_refusals": upgrade_refusals}
