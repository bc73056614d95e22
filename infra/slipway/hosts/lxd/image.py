"""The image that containers of LXD start from: a root and LXD's metadata.yaml in one tar."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from slipway.clients import apt
from slipway.hosts.formats import tarball
from slipway.hosts.nspawn import roots


def write(
    root: Path, file: Path, folder: Path, *, within: Sequence[str | Path] = (), tree: Path | None = None
) -> None:
    """Write a root as a unified image, compressed as the file's name says.

    folder: where metadata.yaml is made. within: words of a command that runs another one, which finds what is
    packed in `tree`; without them it is the root itself. Raises EnvironmentFault where it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".image-", dir=folder) as held:
        (Path(held) / "metadata.yaml").write_text(yaml.safe_dump(metadata(root)))
        tarball.pack(tree or root, file, within=within, before=Path(held), under="rootfs")


def metadata(root: Path) -> dict[str, object]:
    """What LXD is told of an image."""
    release = apt.os_release(root / "etc/os-release")
    machine = os.uname().machine
    return {
        "architecture": machine,
        "creation_date": int(roots.made(root).timestamp()),
        "properties": {
            "architecture": machine,
            "description": f"{release.get('PRETTY_NAME', 'Debian')}, a node of slipway",
            "os": release.get("ID", "debian"),
            "release": release.get("VERSION_CODENAME", ""),
            "serial": root.name,
        },
    }
