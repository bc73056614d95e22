"""Ansible filter: which archives of images a host still needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: lacking_archives
short_description: Archives with an image that a host lacks
description: >-
  Compares what archives hold with fact C(slipway_host.images), so that nothing is copied that a host has.
positional: there
options:
  _input:
    description: Path of each archive to what C(slipway.serving.archive_images) says of it.
    type: dict
    required: true
  there:
    description: Name to digest of the images that are there and pinned.
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Name the archives to import
  ansible.builtin.debug:
    msg: "{{ {'/srv/a.tar': '/srv/a.tar' | slipway.serving.archive_images}
      | slipway.serving.lacking_archives(ansible_facts.slipway_host.images) }}"
"""

RETURN = r"""
_value:
  description: The paths, in the order they came in.
  type: list
  elements: str
"""


def lacking_archives(archives: Mapping[str, Mapping[str, str]], there: Mapping[str, str]) -> list[str]:
    """Paths of archives with an image that is not there, or with another digest; an empty one matches any."""
    return [
        path
        for path, images in archives.items()
        if any(name not in there or digest not in ("", there[name]) for name, digest in images.items())
    ]


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"lacking_archives": lacking_archives}
