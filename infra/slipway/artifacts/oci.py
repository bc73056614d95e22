"""Container image archives, written without a container engine.

One archive is an OCI image layout in a tar, with Docker's manifest.json beside it, so that both
`ctr -n k8s.io images import` and `docker load` take it. Same input, same bytes: members sorted, times
and owners fixed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

EPOCH = 1767225600  # 2026-01-01, the time of every file and image made here
CREATED = "2026-01-01T00:00:00Z"
# Binaries shrink to a third at level 1; higher levels cost seconds for a few percent.
_GZIP_LEVEL = 1

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Item:
    """A file (content or source), or a folder when it has neither. path is absolute.

    capability: a `security.capability` attribute, for a program that a user other than root starts.
    """

    path: str
    source: Path | None = None
    content: bytes | None = None
    mode: int = 0o755
    capability: bytes | None = None


@dataclass(frozen=True)
class Layer:
    """A layer on disk: gzip blob at `path`; diff_id is the sha256 of what is in the gzip."""

    path: Path
    sha256: str
    size: int
    diff_id: str


@dataclass(frozen=True)
class Image:
    """An image by its full name ("registry.k8s.io/pause:3.10.2")."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...]
    user: str = ""
    env: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    labels: dict[str, str] = field(default_factory=dict)


class _LayerFile:
    """A file object that compresses and hashes what is written, before and after compression."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._gzip = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)  # 31: gzip header, without a time
        self._inner, self._outer = hashlib.sha256(), hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._inner.update(data)
        self._put(self._gzip.compress(data))
        return len(data)

    def finish(self, path: Path) -> Layer:
        self._put(self._gzip.flush())
        return Layer(path, self._outer.hexdigest(), self._size, self._inner.hexdigest())

    def _put(self, data: bytes) -> None:
        self._outer.update(data)
        self._size += len(data)
        self._out.write(data)


def layer(path: Path, items: Iterable[Item]) -> Layer:
    """Write a layer of `items` to `path`; their parent folders are added."""
    by_path = {item.path: item for item in items}
    for name in list(by_path):
        for parent in Path(name).parents:
            if str(parent) != "/":
                by_path.setdefault(str(parent), Item(str(parent)))
    with path.open("wb") as out:
        file = _LayerFile(out)
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]  # a stream needs only write()
            for name, item in sorted(by_path.items()):
                _add(tar, name, item)
        return file.finish(path)


def layer_of_tar(path: Path, tar: Path) -> Layer:
    """Write a layer with exactly the bytes of a root file system tar to `path`."""
    with path.open("wb") as out, tar.open("rb") as source:
        file = _LayerFile(out)
        shutil.copyfileobj(source, file, 1 << 20)
        return file.finish(path)


def archive(path: Path, images: Iterable[Image], architecture: str) -> None:
    """Write one archive with all `images`; a layer they share is in it once."""
    blobs: dict[str, bytes | Path] = {}
    index: list[dict[str, Any]] = []
    docker: list[dict[str, Any]] = []

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    for image in sorted(images, key=lambda one: one.name):
        config = blob(_json(_config(image, architecture)), _CONFIG)
        for one in image.layers:
            blobs[one.sha256] = one.path
        manifest = blob(
            _json(
                {
                    "schemaVersion": 2,
                    "mediaType": _MANIFEST,
                    "config": config,
                    "layers": [
                        {"mediaType": _LAYER, "digest": f"sha256:{one.sha256}", "size": one.size}
                        for one in image.layers
                    ],
                }
            ),
            _MANIFEST,
        )
        index.append(
            {
                **manifest,
                "platform": {"architecture": architecture, "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": image.name,
                    "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
                },
            }
        )
        docker.append(
            {
                "Config": _blob_path(config["digest"]),
                "RepoTags": [image.name],
                "Layers": [_blob_path(f"sha256:{one.sha256}") for one in image.layers],
            }
        )
    members: dict[str, bytes | Path] = {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
    members["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    members["index.json"] = _json(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": index}
    )
    members["manifest.json"] = _json(docker)
    with path.open("wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(members.items()):
            if isinstance(data, Path):
                _add(tar, name, Item(name, source=data, mode=0o644))
            else:
                _add(tar, name, Item(name, content=data, mode=0o644))


def _config(image: Image, architecture: str) -> dict[str, Any]:
    config: dict[str, Any] = {"Entrypoint": list(image.entrypoint), "Env": list(image.env)}
    if image.user:
        config["User"] = image.user
    if image.labels:
        config["Labels"] = image.labels
    return {
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one.diff_id}" for one in image.layers]},
        "history": [{"created": CREATED, "created_by": "slipway"} for _ in image.layers],
    }


def _add(tar: tarfile.TarFile, name: str, item: Item) -> None:
    info = tarfile.TarInfo(name.lstrip("/"))
    info.mode, info.mtime = item.mode, EPOCH
    if item.capability is not None:
        info.pax_headers = {"SCHILY.xattr.security.capability": item.capability.decode("ascii")}
    if item.source is not None:
        with item.source.open("rb") as file:
            info.size = item.source.stat().st_size
            tar.addfile(info, file)
    elif item.content is not None:
        info.size = len(item.content)
        tar.addfile(info, io.BytesIO(item.content))
    else:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
