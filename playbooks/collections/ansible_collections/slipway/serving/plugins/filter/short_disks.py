"""Ansible filter: which disks of a host are so full that its kubelet would evict every pod."""

from __future__ import annotations

import re
from typing import Any

DOCUMENTATION = r"""
name: short_disks
short_description: Disks so full that the kubelet would evict every pod
description: Compares the free bytes of the kubelet's disks with its eviction thresholds.
positional: eviction_hard
options:
  _input:
    description: The fact C(slipway_host.disk).
    type: dict
    required: true
  eviction_hard:
    description: Signal to threshold, as evictionHard of KubeletConfiguration; others are the kubelet's own.
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: See that no disk is short
  ansible.builtin.assert:
    that: ansible_facts.slipway_host.disk | slipway.serving.short_disks({}) | length == 0
"""

RETURN = r"""
_value:
  description: One sentence per disk that is short, and per threshold that cannot be read.
  type: list
  elements: str
"""

# What the kubelet asks of a disk by itself; the role's file is laid over it, signal by signal
DEFAULTS = {"nodefs.available": "10%", "imagefs.available": "15%"}
_FACTORS = {"": 1, **{unit: 1000**n for n, unit in enumerate(("k", "M", "G", "T", "P"), 1)}}
_FACTORS |= {f"{unit}i": 1024**n for n, unit in enumerate(("K", "M", "G", "T", "P"), 1)}


def short_disks(disks: dict[str, dict[str, Any]], eviction_hard: dict[str, str]) -> list[str]:
    """One sentence per disk with less free than the kubelet's threshold, and per unreadable threshold.

    disks: the fact slipway_host.disk. eviction_hard: as in KubeletConfiguration, empty for its defaults.
    """
    out = []
    for signal, threshold in {**DEFAULTS, **eviction_hard}.items():
        disk = disks.get(signal.removesuffix(".available"))
        if disk is None:  # memory, inodes, process numbers
            continue
        floor = least(str(threshold), disk["size"])
        if floor is None:
            out.append(
                f"kubernetes_node_eviction_hard: {signal} is {threshold}; expected bytes, 1Gi or 10% for "
                "example"
            )
        elif disk["free"] < floor:
            out.append(
                f"kubernetes_node: {_gb(disk['free'])} of {_gb(disk['size'])} are free at {disk['path']}, "
                f"and the kubelet evicts every pod below {_gb(floor)} ({signal} {threshold}); "
                "free disk on this host, or set kubernetes_node_eviction_hard to less"
            )
    return out


def least(threshold: str, size: int) -> int | None:
    """The bytes of a threshold, which is a quantity or a share of the size; None for anything else.

    The kubelet takes 0% and 100% for no threshold.
    """
    if threshold in ("0%", "100%"):
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%|[a-zA-Z]*)", threshold)
    if match is None:
        return None
    if match[2] == "%":
        return int(size * float(match[1]) / 100)
    return int(float(match[1]) * _FACTORS[match[2]]) if match[2] in _FACTORS else None


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"short_disks": short_disks}
