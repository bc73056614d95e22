"""Image archives: what is in them, and that the same input gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from slipway.artifacts import oci


def write(folder: Path, program: bytes = b"\x7fELF program") -> Path:
    folder.mkdir()
    (folder / "program").write_bytes(program)
    items = [
        oci.Item(
            "/usr/local/bin/tool",
            source=folder / "program",
            capability=bytes.fromhex("0100000200040000" + "00" * 12),
        ),
        oci.Item("/etc/passwd", content=b"root:x:0:0::/:/bin/sh\n", mode=0o644),
        oci.Item("/tmp", mode=0o1777),
    ]
    shared = oci.layer(folder / "shared", items)
    own = oci.layer(folder / "own", [oci.Item("/own", content=b"x")])
    images = [
        oci.Image("registry.example/b:2", (shared, own), ("/own",), user="65532:65532"),
        oci.Image("registry.example/a:1", (shared,), ("/usr/local/bin/tool", "-P")),
    ]
    oci.archive(folder / "images.tar", images, "amd64")
    return folder / "images.tar"


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}


def test_same_input_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "one").read_bytes() == write(tmp_path / "two").read_bytes()
    assert write(tmp_path / "three", b"other").read_bytes() != (tmp_path / "one" / "images.tar").read_bytes()


def test_every_blob_is_what_its_name_says_and_every_reference_is_there(tmp_path: Path) -> None:
    files = read(write(tmp_path / "one"))
    blobs = {name.rpartition("/")[2]: data for name, data in files.items() if name.startswith("blobs/")}
    for name, data in blobs.items():
        assert hashlib.sha256(data).hexdigest() == name

    def get(descriptor: dict[str, Any]) -> bytes:
        data = blobs[descriptor["digest"].removeprefix("sha256:")]
        assert len(data) == descriptor["size"]
        return data

    index = json.loads(files["index.json"])
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    names = [row["annotations"]["io.containerd.image.name"] for row in index["manifests"]]
    assert names == ["registry.example/a:1", "registry.example/b:2"]
    layers = []
    for row in index["manifests"]:
        manifest = json.loads(get(row))
        config = json.loads(get(manifest["config"]))
        assert config["architecture"] == row["platform"]["architecture"] == "amd64"
        inner = [hashlib.sha256(gzip.decompress(get(layer))).hexdigest() for layer in manifest["layers"]]
        assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in inner]
        layers += [layer["digest"] for layer in manifest["layers"]]
    assert len(layers) == 3
    assert len(set(layers)) == 2  # the shared layer is stored once
    docker = json.loads(files["manifest.json"])
    assert [row["RepoTags"] for row in docker] == [["registry.example/a:1"], ["registry.example/b:2"]]
    for row in docker:
        assert {row["Config"], *row["Layers"]} <= set(files)


def test_layer_holds_modes_parents_owners_and_capabilities(tmp_path: Path) -> None:
    write(tmp_path / "one")
    with tarfile.open(tmp_path / "one" / "shared") as tar:
        members = {member.name: member for member in tar}
    assert list(members) == sorted(members)
    assert {"usr", "usr/local", "usr/local/bin", "etc", "tmp"} <= set(members)
    assert members["tmp"].mode == 0o1777
    assert members["etc/passwd"].mode == 0o644
    tool = members["usr/local/bin/tool"]
    assert tool.mode == 0o755
    assert tool.pax_headers["SCHILY.xattr.security.capability"].encode() == bytes.fromhex(
        "0100000200040000" + "00" * 12
    )
    assert {(m.uid, m.gid, m.mtime) for m in members.values()} == {(0, 0, oci.EPOCH)}


def test_root_tar_becomes_a_layer_byte_for_byte(tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as tar:
        tar.add(__file__, "file")
    layer = oci.layer_of_tar(tmp_path / "layer", root)
    assert gzip.decompress(layer.path.read_bytes()) == root.read_bytes()
    assert layer.diff_id == hashlib.sha256(root.read_bytes()).hexdigest()
    assert layer.sha256 == hashlib.sha256(layer.path.read_bytes()).hexdigest()
    assert layer.size == layer.path.stat().st_size


def test_config_carries_entrypoint_and_user(tmp_path: Path) -> None:
    files = read(write(tmp_path / "one"))
    a, b = (json.loads(files[row["Config"]])["config"] for row in json.loads(files["manifest.json"]))
    assert a["Entrypoint"] == ["/usr/local/bin/tool", "-P"]
    assert "User" not in a
    assert b["User"] == "65532:65532"
    assert any(one.startswith("PATH=") and "/usr/local/bin" in one for one in a["Env"])


def test_a_capability_that_is_not_ascii_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnicodeDecodeError):  # tarfile would write it as UTF-8, another value
        oci.layer(tmp_path / "l", [oci.Item("/x", content=b"", capability=b"\xff")])
