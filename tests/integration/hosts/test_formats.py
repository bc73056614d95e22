"""Files of a root: what is kept in a tar, and what is left where one cannot be written. Needs root."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest
import yaml
from slipway.artifacts.cache import sha256_of
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.hosts.formats import disk, tarball, writing
from slipway.hosts.formats.names import Format
from slipway.hosts.formats.neutral_root import NeutralRoot
from slipway.hosts.lxd import image

MARK = '{"made": "2026-11-27T10:00:00+00:00", "files": 0, "bytes": 0}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "golden-abc"
    files = {
        "usr/bin/program": "program",
        "usr/lib/slipway-root.json": MARK,
        "usr/lib/os-release": 'ID=debian\nVERSION_CODENAME=trixie\nPRETTY_NAME="Debian 13"\n',
        "var/lib/docker/overlay2/layer/diff/file": "layer",
        "var/lib/containerd/blob": "blob",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "etc").mkdir()
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    (root / "usr/bin/same").hardlink_to(root / "usr/bin/program")
    (root / "usr/bin/beside").symlink_to("./program")
    (root / "run").mkdir()
    os.chown(root / "usr/bin/program", 123, 456)
    os.setxattr(root / "usr/bin/program", "trusted.kept", b"1")
    # an overlay's whiteout, in a layer of Docker's
    os.mknod(root / "var/lib/docker/overlay2/layer/diff/gone", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    return root


@pytest.fixture
def opened(root: Path, tmp_path: Path) -> NeutralRoot:
    (tmp_path / "making/upper").mkdir(parents=True)
    opened = NeutralRoot(tmp_path / "making", root)
    process.run([*opened.words, "touch", opened.tree / "etc/changed"])
    return opened


@pytest.mark.parametrize("name", ["root.tar", "root.tar.gz"])
def test_a_root_is_packed_whole(root: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    tarball.pack(root, file)
    with tarfile.open(file) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert {"./usr/bin/program", "./var/lib/docker/overlay2/layer/diff/file"} <= members.keys()
    assert {member.uname for member in members.values()} == {""}
    linked = {"./usr/bin/program", "./usr/bin/same"}
    (own,) = (members[one] for one in linked if members[one].isreg())
    (other,) = (members[one] for one in linked if members[one].islnk())
    assert (own.uid, own.gid, other.linkname) == (123, 456, own.name)
    assert own.pax_headers["SCHILY.xattr.trusted.kept"] == "1"
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_changes_are_seen_over_the_root_and_whiteouts_of_layers_too(
    opened: NeutralRoot, tmp_path: Path
) -> None:
    file = tmp_path / "root.tar"
    tarball.pack(opened.tree, file, within=opened.words)
    with tarfile.open(file) as tar:
        assert {"./etc/changed", "./var/lib/containerd/blob"} <= set(tar.getnames())
        assert tar.getmember("./var/lib/docker/overlay2/layer/diff/gone").ischr()
    assert not (opened.root / "etc/changed").exists()


def test_an_image_for_lxd_has_both_parts_and_leaves_links_as_they_are(
    opened: NeutralRoot, tmp_path: Path
) -> None:
    file = tmp_path / "image.tar.gz"
    image.write(opened.root, file, tmp_path, within=opened.words, tree=opened.tree)
    with tarfile.open(file) as tar:
        members = {member.name: member for member in tar.getmembers()}
        held = tar.extractfile("metadata.yaml")
        assert held is not None
        told = yaml.safe_load(held)
    assert {name.split("/")[0] for name in members} == {"metadata.yaml", "rootfs"}
    assert members["rootfs/usr/bin/beside"].linkname == "./program"
    assert {members[f"rootfs/usr/bin/{name}"].linkname for name in ("program", "same")} < {
        *("", "rootfs/usr/bin/program", "rootfs/usr/bin/same")
    }
    assert told["creation_date"] == 1795773600
    assert (told["properties"]["os"], told["properties"]["release"]) == ("debian", "trixie")


def test_a_folder_that_is_not_there_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        tarball.pack(root, tmp_path / "none" / "root.tar")


@pytest.mark.parametrize(
    ("kind", "name"), [("tar", "root.tar"), ("oci", "root.tar"), ("qcow2", "root.qcow2")]
)
def test_a_failure_leaves_what_was_there_and_nothing_half_made(
    root: Path, tmp_path: Path, kind: Format, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = Context(State(tmp_path / "state"), tmp_path / "run", tmp_path, tmp_path / "cache")
    ctx.cache.mkdir()
    left = ctx.cache / "images/.making/upper"
    left.mkdir(parents=True)  # of a run that was killed
    (left / "left").write_text("")
    file = tmp_path / "out" / name
    file.parent.mkdir()
    file.write_text("of yesterday")
    monkeypatch.setattr(disk, "packages", lambda _: ())
    with pytest.raises(EnvironmentFault, match="one for elsewhere"):  # this root has no Python
        writing.write(ctx, Settings(), root, kind, file)
    assert file.read_text() == "of yesterday"
    assert [path.name for path in file.parent.iterdir()] == [name]
    assert [path.name for path in (ctx.cache / "images").iterdir()] == [writing.LOCK]


def test_a_disk_has_room_and_whole_gibibytes() -> None:
    gib = 1 << 30
    assert disk.disk_bytes(200_000_000) == gib
    assert disk.disk_bytes(2 * gib) == 4 * gib


def test_a_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file").startswith("ba7816bf8f01cfea")
