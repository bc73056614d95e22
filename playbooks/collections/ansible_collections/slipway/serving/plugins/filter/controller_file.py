"""Ansible filter: what a file of this controller holds, in the words of fact slipway_host.files."""

from __future__ import annotations

import functools
import hashlib
import stat
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
name: controller_file
short_description: Digest and mode of a file on the controller
description: >-
  To compare a file here with one on a host by fact C(slipway_host.files), without a task for it.
positional: written
options:
  _input:
    description: >-
      Path on the controller; a C(~) is the user's home. A link counts as the file that it leads to.
    type: str
    required: true
  written:
    description: >-
      Texts that stand in it for others, as C({here: there}). The digest is that of the file with the others
      in their places; without one of these texts there is no file to compare.
    type: dict
    default: {}
author: [slipway]
"""

EXAMPLES = r"""
- name: Fetch the kubeconfig
  ansible.builtin.fetch:
    src: /etc/kubernetes/admin.conf
    dest: ~/.kube/config
    flat: true
  when: ('~/.kube/config' | slipway.serving.controller_file).sha256 | default('')
    != ansible_facts.slipway_host.files['/etc/kubernetes/admin.conf'].sha256
"""

RETURN = r"""
_value:
  description: Its C(sha256) and C(mode); nothing where there is no plain file that can be read.
  type: dict
"""


def controller_file(path: str, written: dict[str, str] | None = None) -> dict[str, str]:
    """Digest and mode of a file here; empty where there is no plain file that can be read.

    written: texts that must be in it, to those that the digest has in their places.
    """
    file = Path(path).expanduser()
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            return {}
        if written:
            digest = _digest_before(file.read_bytes(), written)
        else:
            digest = _digest(file, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError:
        return {}
    return {"sha256": digest, "mode": f"{stat.S_IMODE(found.st_mode):04o}"} if digest else {}


@functools.cache
def _digest(file: Path, *_state: int) -> str:
    """Reads once for all hosts: programs are large. _state: differs once another file was written there."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest_before(data: bytes, written: dict[str, str]) -> str:
    for here, there in written.items():
        if here.encode() not in data:
            return ""
        data = data.replace(here.encode(), there.encode())
    return hashlib.sha256(data).hexdigest()


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"controller_file": controller_file}
