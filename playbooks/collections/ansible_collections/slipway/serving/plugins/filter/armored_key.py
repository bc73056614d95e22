"""Ansible filter: an OpenPGP key of this controller as text, to hand to a module on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.slipway.serving.plugins.module_utils import openpgp

DOCUMENTATION = r"""
name: armored_key
short_description: An OpenPGP key file of the controller as text
description: Binary keys are armored, armored ones stay so.
options:
  _input:
    description: Path on the controller; a C(~) is the user's home.
    type: str
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Add the repository
  slipway.serving.apt_source:
    name: example
    uri: https://example.org/debian
    key: "{{ '~/example.gpg' | slipway.serving.armored_key }}"
    fingerprint: 9DC858229FC7DD38854AE2D88D81803C0EBFCD88
"""

RETURN = r"""
_value:
  description: The key, armored.
  type: str
"""


def armored_key(path: str) -> str:
    """The armored key of a file here; what is no key is an error that names the file."""
    try:
        return openpgp.armor(openpgp.dearmor(Path(path).expanduser().read_bytes())).decode()
    except (OSError, openpgp.NotAKey) as error:
        raise AnsibleFilterError(f"{path} is not an OpenPGP key that can be read: {error}") from error


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"armored_key": armored_key}
