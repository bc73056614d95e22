"""A registry's repository in memory, and an image in it whose origin can be signed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.clients.registry import MANIFEST, Manifest, digest_of
from slipway.core.types import ImageRef
from slipway.image.bill import Material
from slipway.image.provenance import Inputs

INPUTS = Inputs("c" * 40, "1" * 64, "2" * 64, ("slipway.local/python:3.13-abc", "sha256:" + "b" * 64))
LISTING = """debian 13
libc6 2.41-12 amd64 glibc
python3 3.13.5-1 amd64 python3-defaults
tar 1.35+dfsg-3.1 amd64 tar
"""


@dataclass
class MemoryStore:
    """What a repository holds, by digest; it lists referrers as the API does."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def manifest(self, reference: str) -> Manifest | None:
        data = self.blobs.get(reference)
        return None if data is None else Manifest(reference, json.loads(data), data)

    def blob(self, digest: str) -> bytes:
        return self.blobs[digest]

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        return self.listed.get(digest, [])

    def put_blob(self, data: bytes) -> None:
        self.blobs[digest_of(data)] = data

    def attach(self, data: bytes, descriptor: dict[str, Any], subject: str) -> None:
        self.put_blob(data)
        self.listed.setdefault(subject, []).append(descriptor)

    def image(self, labels: dict[str, str]) -> str:
        """Add an image with these labels; returns its digest."""
        config = json.dumps({"config": {"Labels": labels}}).encode()
        self.put_blob(config)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"digest": digest_of(config), "size": len(config)},
            "layers": [],
        }
        manifest = json.dumps(document).encode()
        self.put_blob(manifest)
        return digest_of(manifest)


def material(digest: str, wheels: Path, inputs: Inputs = INPUTS) -> Material:
    """What an image of this digest was made of; `wheels` is filled with a few."""
    wheels.mkdir(exist_ok=True)
    for name in (
        "numpy-2.5.5-cp313-cp313-x",
        "tensorflow_cpu-2.21.0-cp313-cp313-x",
        "keras-3.9-py3-none-any",
    ):
        (wheels / f"{name}.whl").write_bytes(name.encode())
    image = ImageRef("10.0.0.1:5000/slipway/mnist", digest, "1-ab", "portable", "mnist", 1, "a" * 64)
    return Material(image, LISTING, wheels, inputs.base)
