"""An OCI image layout: what is written is read back, and what is damaged is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slipway.clients.oci_layout import Layout
from slipway.clients.registry import INDEX, MANIFEST, Manifest, digest_of
from slipway.core.errors import ImageError

DATA = json.dumps({"mediaType": MANIFEST, "config": {}}).encode()
IMAGE = Manifest(digest_of(DATA), json.loads(DATA), DATA)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "layout")
    made.put_image(IMAGE, "1-ab")
    return made


def refer(layout: Layout, subject: str) -> str:
    data = json.dumps({"mediaType": MANIFEST, "subject": {"digest": subject}}).encode()
    layout.attach(data, {"mediaType": MANIFEST, "digest": digest_of(data), "size": len(data)}, subject)
    return digest_of(data)


def test_an_image_and_what_refers_to_it(layout: Layout) -> None:
    name = refer(layout, IMAGE.digest)
    other = refer(layout, "sha256:" + "0" * 64)
    assert layout.images() == {IMAGE.digest: "1-ab"}
    assert [one["digest"] for one in layout.referrers(IMAGE.digest)] == [name]
    assert other != name
    assert layout.manifest(IMAGE.digest) == IMAGE
    assert layout.manifest("sha256:" + "1" * 64) is None
    assert json.loads((layout.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((layout.folder / "index.json").read_text())["mediaType"] == INDEX


def test_a_changed_blob_is_refused(layout: Layout) -> None:
    (layout.folder / "blobs" / IMAGE.digest.replace(":", "/")).write_bytes(DATA + b" ")
    with pytest.raises(ImageError, match="is damaged: the file of sha256:"):
        layout.manifest(IMAGE.digest)


def test_a_missing_blob_is_refused(layout: Layout) -> None:
    with pytest.raises(ImageError, match="it lacks sha256:1111"):
        layout.blob("sha256:" + "1" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:../../x", "md5:1", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(layout: Layout, name: str) -> None:
    with pytest.raises(ImageError, match="which is no sha256 digest"):
        layout.blob(name)


def test_another_folder_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="this is no OCI image layout"):
        Layout(tmp_path).images()
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(ImageError, match="is not JSON"):
        Layout(tmp_path).images()
