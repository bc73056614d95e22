"""The bill of materials: valid CycloneDX 1.6, and what of an image stands in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from slipway.core import project
from slipway.core.types import Servable
from slipway.image.bill import bill, packages
from slipway.image.provenance import provenance

from tests.standins.image_store import INPUTS, material

DIGEST = "sha256:" + "d" * 64


def test_it_is_valid_and_names_the_image(tmp_path: Path) -> None:
    document = bill(material(DIGEST, tmp_path / "wheels"))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
    about = document["metadata"]["component"]
    assert (about["type"], about["name"], about["version"]) == ("container", "slipway/mnist", "1-ab")
    assert about["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    (whole,) = (one for one in document["dependencies"] if one["ref"] == about["bom-ref"])
    assert len(whole["dependsOn"]) == len(document["components"])


def test_it_lists_packages_wheels_own_modules_model_and_base(tmp_path: Path) -> None:
    document = bill(material(DIGEST, tmp_path / "wheels"))
    version = project.version()
    assert sorted(packages(document)) == [
        "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13&upstream=glibc",
        "pkg:deb/debian/python3@3.13.5-1?arch=amd64&distro=debian-13&upstream=python3-defaults",
        "pkg:deb/debian/tar@1.35%2Bdfsg-3.1?arch=amd64&distro=debian-13",
        "pkg:pypi/numpy@2.5.5",
        f"pkg:pypi/slipway-client@{version}",
        f"pkg:pypi/slipway-model-server@{version}",
        "pkg:pypi/tensorflow-cpu@2.21.0",
    ]
    parts = {one["name"]: one for one in document["components"]}
    content = hashlib.sha256(b"numpy-2.5.5-cp313-cp313-x").hexdigest()
    assert parts["numpy"]["hashes"] == [{"alg": "SHA-256", "content": content}]
    assert parts["mnist"]["type"] == "machine-learning-model"
    assert parts["slipway.local/python:3.13-abc"]["version"] == "sha256:" + "b" * 64


def test_every_model_in_the_image_stands_in_bill_and_provenance(tmp_path: Path) -> None:
    made = material(DIGEST, tmp_path / "wheels")
    both = replace(made, image=replace(made.image, beside=(Servable("digits", 2, "e" * 64),)))
    document = bill(both)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
    kind = "machine-learning-model"
    models = {one["name"]: one["version"] for one in document["components"] if one["type"] == kind}
    assert models == {"mnist": "1", "digits": "2"}
    definition = provenance(both.image, INPUTS, finished=datetime.now(UTC))["buildDefinition"]
    digests = {one["name"]: one["digest"] for one in definition["resolvedDependencies"]}
    assert digests["models/digits/2"] == {"sha256": "e" * 64}
    assert definition["externalParameters"]["beside"] == [{"name": "digits", "version": 2}]


def test_the_same_image_gives_the_same_bill(tmp_path: Path) -> None:
    documents = [bill(material(DIGEST, tmp_path / "wheels")) for _ in range(2)]
    for document in documents:
        del document["metadata"]["timestamp"]
    assert documents[0] == documents[1]
