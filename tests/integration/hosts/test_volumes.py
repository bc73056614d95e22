"""A host's own copy of what engines keep in its root."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway.hosts.nspawn import volumes

BLOB = "io.containerd.content.v1.content/blobs/sha256/abc"
LAYER = "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/bin/sh"
DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "root/var/lib/containerd"
    for name in (BLOB, LAYER, *DATABASES):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text("as baked")
    (store / DATABASES[0]).chmod(0o640)
    (store / "link").symlink_to(DATABASES[0])
    return store


@pytest.mark.parametrize("near", [True, False], ids=["same file system", "another"])
def test_what_changes_in_place_is_copied(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    monkeypatch.setattr(volumes, "_can_link", lambda _source, _folder: near)
    target = tmp_path / "hosts/cp/volumes/containerd"
    volumes.lay(store, target)
    assert (target / "link").readlink() == Path(DATABASES[0])
    for name in DATABASES:
        assert (target / name).stat().st_mode == (store / name).stat().st_mode
        with (target / name).open("r+") as file:  # in place, as a database does
            file.write("written")
        assert (store / name).read_text() == "as baked"
    for name in (BLOB, LAYER):
        assert (target / name).samefile(store / name) == near
        assert (target / name).read_text() == "as baked"
    assert [path for path in target.rglob("*") if path.name.endswith(".fresh")] == []


def test_without_a_store_the_folder_is_empty(tmp_path: Path) -> None:
    volumes.lay(tmp_path / "none", tmp_path / "volumes/docker")
    (tmp_path / "empty").mkdir()
    volumes.lay(tmp_path / "empty", tmp_path / "volumes/lxd")
    assert sorted(path.name for path in (tmp_path / "volumes").iterdir()) == ["docker", "lxd"]
    assert not any((tmp_path / "volumes").glob("*/*"))
