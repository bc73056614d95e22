"""An OCI image layout on disk, as oras and skopeo write and read it: its manifests and small blobs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.clients.registry import INDEX, MANIFEST, Manifest, digest_of, json_object
from slipway.core.errors import ImageError
from slipway.core.state import write_atomically

_REF_NAME = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Layout:
    """A folder with `oci-layout`, `index.json` and `blobs/`. Layers may be missing: none is read here.

    Reads what `clients.registry.Repository` reads, in the same words. Every method raises ImageError for a
    layout that is damaged.
    """

    folder: Path

    def images(self) -> dict[str, str]:
        """Digest -> tag ("" without one) of what index.json lists and what refers to nothing else."""
        found = {}
        for entry in self._index():
            kept = self.manifest(entry["digest"])
            if kept is not None and "subject" not in kept.document:
                found[kept.digest] = str(entry.get("annotations", {}).get(_REF_NAME, ""))
        return found

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest of a digest, None if the layout has none."""
        if not self._path(digest).is_file():
            return None
        data = self.blob(digest)
        return Manifest(digest, json_object(data, str(self.folder), digest), data)

    def blob(self, digest: str) -> bytes:
        """A config or another small blob."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise self._damaged(f"it lacks {digest} ({error.strerror})") from error
        if digest_of(data) != digest:
            raise self._damaged(f"the file of {digest} is {digest_of(data)}")
        return data

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests in index.json whose subject this one is."""
        listed = []
        for entry in self._index():
            kept = self.manifest(entry["digest"])
            if kept is not None and kept.document.get("subject", {}).get("digest") == digest:
                listed.append(entry)
        return listed

    def put_blob(self, data: bytes) -> None:
        """Add a blob."""
        write_atomically(self._path(digest_of(data)), data)

    def put_image(self, image: Manifest, tag: str) -> None:
        """Make this the layout of one image, whose config and layers are put, or left out, apart from it."""
        write_atomically(self.folder / "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))
        self.put_blob(image.data)
        self._write_index([{**image.descriptor, "annotations": {_REF_NAME: tag}}])

    def attach(self, data: bytes, descriptor: dict[str, Any], subject: str) -> None:
        """Add a manifest that refers to `subject`; descriptor: what index.json says of it."""
        self.put_blob(data)
        self._write_index([*self._index(), descriptor])

    def _write_index(self, manifests: list[dict[str, Any]]) -> None:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        write_atomically(self.folder / "index.json", json.dumps(index, indent=1) + "\n")

    def _index(self) -> list[dict[str, Any]]:
        try:
            data = (self.folder / "index.json").read_bytes()
        except OSError as error:
            raise ImageError(
                f"this is no OCI image layout: index.json cannot be read ({error.strerror})",
                where=str(self.folder),
                action="name a folder that `oras cp --to-oci-layout`, `skopeo copy` or slipway wrote",
            ) from error
        listed = json_object(data, str(self.folder), "index.json").get("manifests", [])
        return [one for one in listed if isinstance(one, dict) and one.get("mediaType") in (MANIFEST, INDEX)]

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise self._damaged(f"it names {digest[:80]!r}, which is no sha256 digest")
        return self.folder / "blobs" / digest.replace(":", "/")

    def _damaged(self, what: str) -> ImageError:
        return ImageError(
            f"the OCI image layout is damaged: {what}", where=str(self.folder), action="copy the image again"
        )
