"""What is refused before a root is baked for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from slipway.core.errors import EnvironmentFault, UsageError
from slipway.hosts.formats import writing
from slipway.hosts.formats.names import Format


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("tar", "node.qcow2", ".tar.zst, .tar, .tar.gz, .tgz or .tar.xz"),
        ("lxd", "node.zip", ".tar.zst, .tar, .tar.gz, .tgz or .tar.xz"),
        ("qcow2", "node.img", "end in .qcow2"),
        ("oci", "node.tar.gz", "end in .tar"),
        ("oci", ".tar", "end in .tar"),
    ],
)
def test_a_name_of_another_format_is_told_what_was_expected(
    kind: Format, name: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"is no name for format {kind}") as caught:
        writing.check(kind, tmp_path / name)
    assert expected in caught.value.action


@pytest.mark.parametrize(
    ("name", "why"), [("none/node.tar", "a folder that does not exist"), ("there.tar", "is a folder")]
)
def test_a_place_where_no_file_can_be_is_refused(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "there.tar").mkdir()
    with pytest.raises(UsageError, match=why):
        writing.check("tar", tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "name", "missing", "packages"),
    [
        ("tar", "node.tar.xz", ["xz"], "xz-utils"),
        ("tar", None, ["zstd"], "zstd"),
        ("lxd", "node.tgz", ["gzip"], "gzip"),
        ("oci", None, ["zstd"], "zstd"),
        (
            "qcow2",
            None,
            ["sfdisk", "mkfs.vfat", "mcopy", "mke2fs", "qemu-img"],
            "fdisk dosfstools mtools e2fsprogs qemu-utils",
        ),
    ],
)
def test_a_program_that_is_not_here_is_told_with_its_package(
    kind: Format,
    name: str | None,
    missing: list[str],
    packages: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name in missing else f"/usr/bin/{name}")
    with pytest.raises(EnvironmentFault, match=", ".join(missing)) as caught:
        writing.check(kind, tmp_path / name if name else None)
    assert caught.value.action == f"apt-get install {packages}"


@pytest.mark.parametrize(
    ("kind", "name"), [("tar", "node.tar"), ("tar", "node.tar.zst"), ("qcow2", "n.qcow2"), ("oci", None)]
)
def test_what_can_be_written_passes(kind: Format, name: str | None, tmp_path: Path) -> None:
    writing.check(kind, tmp_path / name if name else None)
