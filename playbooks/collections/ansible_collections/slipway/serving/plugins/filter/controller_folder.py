"""Ansible filter: what a folder of this controller holds, to compare it with one on a host."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
name: controller_folder
short_description: Digest of every file of a folder on the controller
description: >-
  To compare a folder here with one on a host, of which C(ansible.builtin.find) tells the same.
options:
  _input:
    description: Path on the controller; a C(~) is the user's home.
    type: str
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Copy the model
  ansible.builtin.copy:
    src: ~/models/mnist/1/
    dest: /var/lib/models/mnist/1
    mode: "0644"
  when: ('~/models/mnist/1' | slipway.serving.controller_folder) != there
"""

RETURN = r"""
_value:
  description: Path below the folder to C(sha256); nothing where there is no folder that can be read.
  type: dict
"""


def controller_folder(path: str) -> dict[str, str]:
    """Path below the folder to digest of each file."""
    folder = Path(path).expanduser()
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as opened:
                found[str(file.relative_to(folder))] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"controller_folder": controller_folder}
