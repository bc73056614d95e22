"""Ansible filter: which images a controller's archive holds, read from its index alone."""

from __future__ import annotations

import json
import tarfile
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: archive_images
short_description: Images in an archive on the controller
description: Reads the index of an OCI or a Docker archive, and nothing else of it.
options:
  _input:
    description: Path of the archive.
    type: path
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Look for the images
  slipway.serving.containerd_images:
    images: "{{ 'pause.tar' | slipway.serving.archive_images }}"
"""

RETURN = r"""
_value:
  description: Name to manifest digest of each image. The digest is empty in a Docker archive, which has none.
  type: dict
"""

NAME = "io.containerd.image.name"


def archive_images(path: str) -> dict[str, str]:
    """Image name to manifest digest of an OCI archive; of a Docker archive, to an empty digest.

    Raises AnsibleFilterError when the file is missing or is neither.
    """
    try:
        with tarfile.open(path) as archive:
            members = set(archive.getnames())
            if "index.json" in members:
                index = _json(archive, "index.json")
                named = {
                    manifest["annotations"][NAME]: str(manifest["digest"])
                    for manifest in index["manifests"]
                    if NAME in manifest.get("annotations", {})
                }
                if named:
                    return named
            if "manifest.json" in members:
                return {
                    tag: "" for image in _json(archive, "manifest.json") for tag in image["RepoTags"] or []
                }
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"{path} is not an image archive that can be read: {error}") from error
    raise AnsibleFilterError(f"{path} names no image: expected an OCI or a Docker archive")


def _json(archive: tarfile.TarFile, member: str) -> Any:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member} is not a file")
    return json.load(file)


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"archive_images": archive_images}
