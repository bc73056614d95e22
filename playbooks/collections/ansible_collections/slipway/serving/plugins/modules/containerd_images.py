#!/usr/bin/python
"""Ansible module: images in containerd's store for Kubernetes."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: containerd_images
short_description: Have images in containerd's k8s.io namespace
description:
  - Compares the wanted images with containerd's by name and digest. When one is missing and an archive is
    given, imports the archive. Imported images are pinned, since a node that cannot pull them must not lose
    them to the kubelet's garbage collection.
options:
  images:
    description: Name to digest of the wanted images; an empty digest matches any.
    type: dict
    required: true
  archive: {description: Archive on this host to import them from. Without it nothing changes., type: path}
author: [slipway]
"""

EXAMPLES = r"""
- name: Look for the images
  slipway.serving.containerd_images:
    images: {"registry.k8s.io/pause:3.10.2": "sha256:..."}
"""

RETURN = r"""
missing:
  description: Names of wanted images that were not there, or not with this digest.
  returned: always
  type: list
  elements: str
"""


CTR = ["ctr", "--namespace", "k8s.io", "images"]
PIN = "io.cri-containerd.pinned=pinned"


def present(listing: str) -> dict[str, tuple[str, bool]]:
    """Name to (digest, pinned) of what `ctr images ls` prints."""
    found = {}
    for line in listing.splitlines()[1:]:
        words = line.split()
        digest = next((word for word in words[1:] if word.startswith("sha256:")), "")
        found[words[0]] = (digest, PIN in words[-1])
    return found


def missing(wanted: dict[str, str], there: dict[str, tuple[str, bool]]) -> list[str]:
    """Names of wanted images that are absent, of another digest, or could be garbage-collected."""
    absent = ("", False)
    return sorted(
        name
        for name, digest in wanted.items()
        if not (there.get(name, absent)[1] and digest in ("", there[name][0]))
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={"images": {"type": "dict", "required": True}, "archive": {"type": "path"}},
        supports_check_mode=True,
    )

    def ctr(*words: str) -> str:
        _code, out, _err = module.run_command([*CTR, *words], check_rc=True)
        return str(out)

    wanted: dict[str, Any] = module.params["images"]
    archive = module.params["archive"]
    lacking = missing(wanted, present(ctr("ls")))
    if archive is None or not lacking or module.check_mode:
        module.exit_json(changed=archive is not None and bool(lacking), missing=lacking)
    ctr("import", archive)
    for name in lacking:
        ctr("label", name, PIN)
    left = missing(wanted, present(ctr("ls")))
    if left:
        module.fail_json(msg=f"{archive} was imported and still lacks {', '.join(left)}", missing=left)
    module.exit_json(changed=True, missing=lacking)


if __name__ == "__main__":
    main()
