"""An image's origin: its signature, bill of materials and provenance, beside it in the registry.

Each is a signed bundle in a manifest of its own that refers to the image (OCI 1.1 `subject`). The same lies,
with the image's manifest and without its layers, as an OCI layout in the state folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from slipway.clients.oci_layout import Layout
from slipway.clients.registry import MANIFEST, Manifest, digest_of, json_object
from slipway.core.context import Context
from slipway.core.errors import ImageError
from slipway.image import bill as bills
from slipway.image import provenance as provenances
from slipway.image import signing

SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
_EMPTY = b"{}"  # the config of a manifest that is no image
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_PREDICATE = "dev.sigstore.bundle.predicateType"


class Store(Protocol):
    """Where an image and what refers to it are read from: a registry's repository or a layout."""

    def manifest(self, reference: str, /) -> Manifest | None: ...

    def blob(self, digest: str, /) -> bytes: ...

    def referrers(self, digest: str, /) -> list[dict[str, Any]]: ...

    def put_blob(self, data: bytes, /) -> None: ...

    def attach(self, data: bytes, descriptor: dict[str, Any], subject: str, /) -> None: ...


class Unproved(ImageError):
    """What is said about an image, or the image itself, is not what the key's owner signed."""


@dataclass(frozen=True)
class Origin:
    """What is proved about an image. key: fingerprint of what it was checked with.

    packages: how many Debian and Python packages its bill lists. revision: the commit of slipway, None if
    unknown. base: its digest.
    """

    digest: str
    key: str
    packages: int
    revision: str | None
    base: str
    built: str


def sign(
    ctx: Context, store: Store, key: signing.PrivateKey, material: bills.Material, inputs: provenances.Inputs
) -> None:
    """Put three statements about an image beside it in `store`, and all into the state folder's layout."""
    image = material.image
    found = store.manifest(image.digest)
    assert found is not None  # its digest was just confirmed
    finished = datetime.now(UTC)
    name = image.repository.partition("/")[2]
    statements = {
        SIGNATURE: {},
        bills.KIND: bills.bill(material),
        provenances.KIND: provenances.provenance(image, inputs, finished=finished),
    }
    layout = _fresh_layout(ctx.state.image / "layout", store, found, image.tag)
    for kind, predicate in statements.items():
        bundle = signing.signed(key, name, image.digest, kind, predicate)
        manifest = _manifest(found, bundle, kind, finished)
        descriptor = {
            "mediaType": MANIFEST,
            "digest": digest_of(manifest),
            "size": len(manifest),
            "artifactType": signing.BUNDLE,
            "annotations": json.loads(manifest)["annotations"],
        }
        for to in (store, layout):
            to.put_blob(_EMPTY)
            to.put_blob(bundle)
            to.attach(manifest, descriptor, image.digest)


def verify(store: Store, where: str, digest: str, key: signing.PublicKey) -> Origin:
    """Check what is signed about an image: each statement, its bill, and that its labels say the same.

    Raises Unproved with every reason, when one of the three is missing, signed by another key, changed, or
    about another image; ImageError when there is no such image or the store cannot be read.
    """
    image = store.manifest(digest)
    if image is None:
        raise ImageError(f"there is no image {digest}", where=where, action="check the name and the digest")
    bundles = _bundles(store, digest)
    wrong: list[str] = []

    def proved(kind: str, what: str) -> dict[str, Any]:
        refused = []
        for kind_told, data in bundles:
            if kind_told == kind:
                try:
                    return signing.checked(data(), key, digest, kind)
                except signing.Refused as error:
                    refused.append(f"{what}: it {error}")
        wrong.extend(refused or [f"{what}: the image has none"])
        return {}

    proved(SIGNATURE, "signature")
    bill, provenance = proved(bills.KIND, "bill of materials"), proved(provenances.KIND, "provenance")
    if bill and (bill.get("bomFormat"), bill.get("specVersion")) != ("CycloneDX", "1.6"):
        wrong.append("bill of materials: it is no CycloneDX 1.6")
    labels = _labels(store, image, where)
    if provenance and (differs := provenances.contradiction(provenance, labels)):
        wrong.append(f"provenance: {differs}")
    if wrong:
        raise Unproved(
            f"the origin of {digest} is not proved by the key {key.fingerprint[:16]}",
            where=where,
            tail="\n".join(wrong),
            action="check that the key is its signer's (`--key`); what was changed must not run: build it "
            "anew with `slipway image build`",
        )
    return Origin(
        digest,
        key.fingerprint,
        sum(1 for _ in bills.packages(bill)),
        labels.get(provenances.REVISION),
        labels[provenances.BASE_DIGEST],
        str(provenance.get("runDetails", {}).get("metadata", {}).get("finishedOn", "")),
    )


def _bundles(store: Store, digest: str) -> list[tuple[str, Callable[[], bytes]]]:
    """Of each bundle that refers to the image: the kind it is told to be of, and how to read it."""
    found: list[tuple[str, Callable[[], bytes]]] = []
    for descriptor in store.referrers(digest):
        manifest = store.manifest(str(descriptor.get("digest")))
        if manifest is None:
            continue
        kind = manifest.document.get("annotations", {}).get(_PREDICATE, "")
        for layer in manifest.document.get("layers", []):
            if str(layer.get("mediaType", "")).startswith(signing.BUNDLES):
                found.append((kind, lambda name=layer["digest"]: store.blob(name)))  # type: ignore[misc]  # a default binds it
    return found


def _labels(store: Store, image: Manifest, where: str) -> dict[str, str]:
    digest = image.document.get("config", {}).get("digest")
    if digest is None:
        raise ImageError(
            f"{image.digest} is no image but a list of images",
            where=where,
            action="name one of the images it lists by its digest",
        )
    config = json_object(store.blob(digest), where, f"the config {digest}")
    return dict(config.get("config", {}).get("Labels") or {})


def _manifest(image: Manifest, bundle: bytes, kind: str, created: datetime) -> bytes:
    empty = {"mediaType": _EMPTY_TYPE, "digest": digest_of(_EMPTY), "size": len(_EMPTY)}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": signing.BUNDLE,
        "config": empty,
        "layers": [{"mediaType": signing.BUNDLE, "digest": digest_of(bundle), "size": len(bundle)}],
        "subject": image.descriptor,
        "annotations": {
            "org.opencontainers.image.created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "dev.sigstore.bundle.content": "dsse-envelope",
            _PREDICATE: kind,
        },
    }
    return json.dumps(document, sort_keys=True).encode()


def _fresh_layout(folder: Path, store: Store, image: Manifest, tag: str) -> Layout:
    """A layout of this image alone, without its layers."""
    if folder.is_dir():
        shutil.rmtree(folder)
    layout = Layout(folder)
    layout.put_image(image, tag)
    layout.put_blob(store.blob(image.document["config"]["digest"]))
    return layout
