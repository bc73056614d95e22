"""A root as an OCI image of one layer, in an archive that `docker load`, podman, skopeo and ctr read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.artifacts import machine
from slipway.artifacts.cache import sha256_of
from slipway.clients import apt
from slipway.clients.oci_layout import Layout
from slipway.clients.registry import MANIFEST, Manifest, digest_of
from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.hosts.formats import tarball
from slipway.hosts.formats.neutral_root import NeutralRoot
from slipway.hosts.nspawn import roots

PROGRAMS = {"tar": "tar", "zstd": "zstd"}
NAME = "slipway-node"
# Docker's own layers hold devices that are whiteouts: in a container they would take away what they name
WITHOUT = ("var/lib/docker",)
# Engines cannot lay their overlays over a container's own
VOLUMES = ("/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet")
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"


def write(opened: NeutralRoot, file: Path) -> None:
    """Write the archive. Raises EnvironmentFault where it cannot be; `file` is whole or not there."""
    layout = opened.folder / "layout"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    layer = opened.folder / "layer.tar"
    tarball.pack(opened.tree, layer, within=opened.words, without=WITHOUT)
    diff = sha256_of(layer)
    packed = opened.folder / "layer.tar.zst"
    try:
        process.run(["zstd", "--quiet", "--rm", "-T0", layer, "-o", packed])
        name, size = sha256_of(packed), packed.stat().st_size
        packed.rename(blobs / name)
        described = _config(opened.root, f"sha256:{diff}")
        config = json.dumps(described).encode()
        Layout(layout).put_blob(config)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": _LAYER, "digest": f"sha256:{name}", "size": size}],
            "annotations": described["config"]["Labels"],
        }
        data = json.dumps(document).encode()
        tag = opened.root.name
        Layout(layout).put_image(Manifest(digest_of(data), document, data), tag)
        # what Docker reads where it keeps images in a store of its own
        docker = {
            "Config": f"blobs/sha256/{digest_of(config).removeprefix('sha256:')}",
            "RepoTags": [f"{NAME}:{tag}"],
            "Layers": [f"blobs/sha256/{name}"],
        }
        (layout / "manifest.json").write_text(json.dumps([docker]))
        process.run(
            [
                *(
                    "tar",
                    "--create",
                    "--numeric-owner",
                    "--owner=0",
                    "--group=0",
                    "--sort=name",
                    "--file",
                    file,
                ),
                *("--directory", layout, "oci-layout", "index.json", "manifest.json", "blobs"),
            ]
        )
    except (CommandError, OSError) as error:
        file.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"the image cannot be written to {file}",
            tail=error.output if isinstance(error, CommandError) else str(error),
            action="give a file in a folder that exists and has room for it",
        ) from error


def _config(root: Path, diff: str) -> dict[str, Any]:
    release = apt.os_release(root / "etc/os-release")
    made = roots.made(root).isoformat()
    label = "org.opencontainers.image"
    return {
        "created": made,
        "architecture": machine.architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=docker"],
            "Cmd": ["/sbin/init"],
            "StopSignal": "SIGRTMIN+3",
            "Volumes": {path: {} for path in VOLUMES},
            "Labels": {
                f"{label}.title": NAME,
                f"{label}.description": f"{release.get('PRETTY_NAME', 'Debian')}, a node of slipway",
                f"{label}.version": root.name,
                f"{label}.created": made,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created": made, "created_by": "slipway hosts bake --format oci"}],
    }
