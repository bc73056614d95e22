"""Models in a registry: the layouts that ORAS, ModelPack and KServe's modelcars give them.

| layout | what its layers are |
| --- | --- |
| ORAS artifact | a file each, named by `org.opencontainers.image.title`; a folder as a tar that is marked |
| ModelPack, ModelKit | tars, or files named by `org.cncf.model.filepath` |
| modelcar: an ordinary image | tar layers over each other, of which `/models` counts |

Specifications: github.com/opencontainers/image-spec, github.com/modelpack/model-spec and
kserve.github.io/website (modelcars).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slipway.artifacts import cache
from slipway.clients import docker_logins
from slipway.clients.registry import Manifest, Repository
from slipway.core.errors import ArtifactError, ImageError, ModelError
from slipway.core.events import Emit, counted
from slipway.core.setting_types import OCI_ADDRESS
from slipway.core.types import Registry
from slipway.model import addresses, unpacked

_TITLE = "org.opencontainers.image.title"
_FILE_PATHS = ("org.cncf.model.filepath", "org.cnai.model.filepath")
_UNPACK = "io.deis.oras.content.unpack"
_IMAGES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_TAR = re.compile(r"[.+]tar([.+](gzip|gz))?$")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MODELCAR = "models/"
_ACTION = (
    "push the SavedModel's folder with ORAS (`oras push REFERENCE 1/`), as a ModelPack, or as an image that "
    "has it in /models"
)


@dataclass(frozen=True)
class _Layer:
    """A blob of an artifact. name: of the file it is, or empty. packed: it is a tar of files."""

    digest: str
    size: int
    name: str
    packed: bool


@dataclass
class Artifact:
    """A model in a registry, at an address oci://REGISTRY/REPOSITORY:TAG or @DIGEST."""

    address: str

    def identity(self) -> tuple[str, ...]:
        """The digest of its manifest."""
        return (self._manifest.digest,)

    def bring(self, parts: Path, emit: Emit) -> tuple[Path, int | None]:
        """Fetch its layers and lay them out. Raises ArtifactError, or ModelError for another layout."""
        layers = self._layers()
        total = sum(layer.size for layer in layers)
        if total > unpacked.LARGEST:
            raise ModelError(f"has more than {unpacked.LARGEST >> 30} GiB", where=self.address)
        with counted(emit, f"fetch {self.address}", total, "B") as came:
            blobs = [self._fetch(layer, parts, came) for layer in layers]
        tree = parts / "unpacked"
        only = _MODELCAR if self._is_image(layers) else ""
        for layer, blob in zip(layers, blobs, strict=True):
            if layer.packed:
                unpacked.unpack(blob, tree, self.address, lambda name: name.startswith(only))
            else:
                target = tree / unpacked.inside(layer.name, self.address)
                target.unlink(missing_ok=True)
                cache.link(blob, target)
        self._refuse_deletions(tree)
        files = [path for path in tree.rglob("*") if path.is_file()]
        if len(files) == 1 and unpacked.kind(files[0]) in unpacked.KINDS:
            return addresses.of_archive(files[0], parts / "archive", self.address)
        return addresses.of_tree(tree, self.address)

    def _layers(self) -> list[_Layer]:
        out = []
        for one in self._manifest.document.get("layers") or []:
            kind, noted = str(one.get("mediaType", "")), one.get("annotations") or {}
            title = str(noted.get(_TITLE, ""))
            name = title or next((str(noted[key]) for key in _FILE_PATHS if noted.get(key)), "")
            # ORAS calls a plain file a tar too, and says by an annotation which ones are
            packed = noted.get(_UNPACK) == "true" if title else _TAR.search(kind) is not None
            digest, size = str(one.get("digest", "")), one.get("size")
            if kind.endswith("zstd") or not (packed or name):
                raise ModelError(
                    f"has a layer that is no tar, tar.gz or named file: {kind[:200] or 'no media type'}",
                    where=self.address,
                    action=_ACTION,
                )
            if not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
                raise ModelError("has a layer without size or sha256", where=self.address, action=_ACTION)
            out.append(_Layer(digest, size, name, packed))
        return out

    def _is_image(self, layers: list[_Layer]) -> bool:
        config = self._manifest.document.get("config") or {}
        return config.get("mediaType") in _IMAGES and not any(layer.name for layer in layers)

    def _refuse_deletions(self, tree: Path) -> None:
        if gone := next(tree.rglob(".wh.*"), None):
            raise ModelError(
                f"deletes in one layer what another has: {gone.name.removeprefix('.wh.')}",
                where=self.address,
                action="build it with one COPY of the model",
            )

    def _fetch(self, layer: _Layer, parts: Path, came: Callable[[int], None]) -> Path:
        blob = parts / layer.digest.replace(":", "-")
        try:
            self._repository.fetch(layer.digest, layer.size, blob, came)
        except ImageError as error:
            raise self._told(error) from error
        return blob

    @cached_property
    def _repository(self) -> Repository:
        found = OCI_ADDRESS.fullmatch(self.address)
        assert found is not None  # the settings have checked it
        host = found["registry"]
        return Repository(
            Registry(host),
            found["repository"],
            login=docker_logins.of(host),
            login_advice=f"log in with `docker login {host}` (or oras, or podman)",
        )

    @cached_property
    def _manifest(self) -> Manifest:
        """The artifact's or image's own; of an index the first that is no attestation."""
        found = OCI_ADDRESS.fullmatch(self.address)
        assert found is not None  # the settings have checked it
        reference = found["digest"] or found["tag"]
        try:
            manifest = self._repository.manifest(reference)
            if manifest is not None and "manifests" in manifest.document:
                listed = manifest.document["manifests"]
                real = [one for one in listed if one.get("platform", {}).get("os") != "unknown"]
                manifest = self._repository.manifest(str(real[0]["digest"])) if real else None
        except ImageError as error:
            raise self._told(error) from error
        if manifest is None:
            raise ArtifactError(
                "there is nothing here", where=self.address, action="check repository and tag or digest"
            )
        return manifest

    def _told(self, error: ImageError) -> ArtifactError:
        return ArtifactError(error.what, where=self.address, tail=error.tail, action=error.action)
