"""The bill of materials of an image, in CycloneDX 1.6: packages, wheels, slipway's own modules, the model."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from slipway.artifacts.cache import sha256_of
from slipway.artifacts.products import DISTRIBUTIONS
from slipway.core import project
from slipway.core.types import ImageRef
from slipway.image.contents import Server, wanted
from slipway.image.own_wheels import PRODUCTS

KIND = "https://cyclonedx.org/bom"
# What lists the packages in an image: its distribution, then a line for each package
LISTING = (
    "sh",
    "-c",
    '. /etc/os-release && echo "$ID $VERSION_ID" && '
    "dpkg-query -W -f '${Package} ${Version} ${Architecture} ${source:Package}\\n'",
)


@dataclass(frozen=True)
class Material:
    """What an image was made of. listing: what LISTING printed in it. wheels: a folder of them.

    base: the reference and digest of what it starts from.
    """

    image: ImageRef
    listing: str
    wheels: Path
    base: tuple[str, str]


def bill(material: Material) -> dict[str, Any]:
    """The bill as a JSON document. The same image gives the same but for the time it was written at."""
    image = material.image
    name = image.repository.partition("/")[2]
    root = Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=image.tag,
        bom_ref=f"image:{image.digest}",
        purl=PackageURL("oci", None, name.rpartition("/")[2], image.digest, {"tag": image.tag}),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image.digest.removeprefix("sha256:"))],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"oci:{name}@{image.digest}"))
    bom.metadata.component = root
    bom.metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="slipway", version=project.version())
    )
    parts = [*_debian(material.listing), *_wheels(material.wheels, image.server), *_own(image)]
    parts.append(_base(*material.base))
    bom.components.update(parts)
    bom.register_dependency(root, parts)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    assert isinstance(document, dict)
    return document


def _debian(listing: str) -> Iterator[Component]:
    """The packages that dpkg has on record."""
    first, *lines = listing.strip().splitlines()
    distribution = first.split()
    for line in lines:
        name, version, architecture, source = line.split()
        qualifiers = {"arch": architecture, "distro": "-".join(distribution)}
        if source != name:
            qualifiers["upstream"] = source
        purl = PackageURL("deb", distribution[0], name, version, qualifiers)
        yield _library(name, version, purl)


def _wheels(folder: Path, server: Server) -> Iterator[Component]:
    """The wheels of which anything is in the image of this server, each with its own hash."""
    for wheel in sorted(folder.glob("*.whl")):
        distribution, version = wheel.name.split("-")[:2]
        if wanted(f"{distribution}-{version}.dist-info/METADATA", server):
            name = re.sub(r"[-_.]+", "-", distribution).lower()
            yield _library(name, version, PackageURL("pypi", None, name, version), sha256_of(wheel))


def _own(image: ImageRef) -> Iterator[Component]:
    for product in PRODUCTS[image.server]:
        name = DISTRIBUTIONS[product].replace("_", "-")
        yield _library(name, project.version(), PackageURL("pypi", None, name, project.version()))
    for model in image.servables:
        yield Component(
            type=ComponentType.MACHINE_LEARNING_MODEL,
            name=model.name,
            version=str(model.version),
            bom_ref=f"model:{model.name}",
            # over the names and bytes of all its files, so no hash of one file
            properties=[Property(name="slipway:model:sha256", value=model.sha256)],
        )


def _base(reference: str, digest: str) -> Component:
    return Component(
        type=ComponentType.CONTAINER,
        name=reference.partition("@")[0],
        version=digest,
        bom_ref=f"base:{digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )


def _library(name: str, version: str, purl: PackageURL, sha256: str = "") -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else [],
    )


def packages(document: dict[str, Any]) -> Iterable[str]:
    """The package URLs of a bill's components; what has none, like the model, is left out."""
    return (one["purl"] for one in document.get("components", []) if "purl" in one)
