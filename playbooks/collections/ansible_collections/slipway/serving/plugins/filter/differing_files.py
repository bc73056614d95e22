"""Ansible filter: which files of a host are not as they are wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: differing_files
short_description: Files that are not as they are wanted
description: >-
  Compares what a role would write with fact C(slipway_host.files), so that a run with nothing to do need not
  ask the host file by file.
positional: there
options:
  _input:
    description: >-
      Path to the wanted C(content) or C(sha256), and as far as they matter C(mode), C(owner) and C(group).
      Files that are not named do not count.
    type: dict
    required: true
  there:
    description: Path to state, as in fact C(slipway_host.files).
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Write the files that differ
  ansible.builtin.copy:
    dest: "{{ item }}"
    content: "{{ wanted[item].content }}"
    mode: "0644"
  loop: "{{ wanted | slipway.serving.differing_files(ansible_facts.slipway_host.files) }}"
"""

RETURN = r"""
_value:
  description: The paths, sorted.
  type: list
  elements: str
"""

COMPARED = ("sha256", "mode", "owner", "group")


def differing_files(
    wanted: Mapping[str, Mapping[str, str]], there: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Paths of wanted files that are not there, or differ in what is wanted of them."""
    return sorted(path for path, file in wanted.items() if not _same(file, there.get(path, {})))


def _same(wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    asked = {key: wanted[key] for key in COMPARED if key in wanted}
    if "content" in wanted:
        asked["sha256"] = hashlib.sha256(wanted["content"].encode()).hexdigest()
    # nothing found is not the same as nothing asked of it
    return bool(found) and all(found.get(key) == value for key, value in asked.items())


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"differing_files": differing_files}
