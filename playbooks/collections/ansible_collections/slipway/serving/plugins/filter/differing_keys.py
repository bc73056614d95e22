"""Ansible filter: which keys of a configuration are not as they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

DOCUMENTATION = r"""
name: differing_keys
short_description: Keys of a configuration that are not as they are wanted
description: >-
  Compares what a role would set with what a fact tells of it, so that a run with nothing to do need not ask
  the host. What the fact does not tell counts as differing.
positional: there
options:
  _input: {description: "The wanted keys, nested.", type: dict, required: true}
  there:
    description: Dotted key to value, as in fact C(slipway_host.docker_daemon).
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Say what differs
  ansible.builtin.debug:
    msg: "{{ wanted | slipway.serving.differing_keys(ansible_facts.slipway_host.docker_daemon) }}"
"""

RETURN = r"""
_value:
  description: The keys, dotted.
  type: list
  elements: str
"""

ABSENT = object()


def differing_keys(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Dotted keys that are told otherwise than they are wanted, or not told."""
    return [key for key, value in _leaves(wanted, "") if not _same(value, there.get(key, ABSENT))]


def _same(value: Any, told: Any) -> bool:
    # to Python, true is 1 and to Docker it is not; not by type, for Ansible has types of its own
    return isinstance(value, bool) is isinstance(told, bool) and bool(value == told)


def _leaves(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"differing_keys": differing_keys}
