"""User-data for cloud-init: what makes a fresh virtual machine one that slipway can take.

In: a name, a login and keys. Out: the text of a #cloud-config. Needs no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

USER: Final = "slipway"
# Ansible's modules for apt need the last two
PACKAGES: Final = ("sudo", "python3", "python3-apt", "python3-debian")


def user_data(
    name: str,
    user: str,
    login_key: str,
    *,
    host_key: str,
    host_key_public: str,
    files: Mapping[str, str] | None = None,
) -> str:
    """The #cloud-config of one machine.

    login_key: the public key that logs in as `user`, which may do anything with sudo. host_key: the machine's
    own private key in OpenSSH's format; it shows this one and no other, so whoever made it knows the machine
    before it first answers. files: what else is to be there, path to text.
    """
    document: dict[str, Any] = {
        "hostname": name,
        "users": [
            {
                "name": user,
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [login_key],
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key, "ed25519_public": host_key_public},
        "write_files": [
            {"path": path, "content": text, "permissions": "0644"} for path, text in (files or {}).items()
        ],
        "package_update": True,
        "packages": list(PACKAGES),
    }
    if not files:
        del document["write_files"]
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=4096)
