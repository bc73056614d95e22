"""Archives of strangers: what is written, and what is refused before it can be."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.core.errors import ModelError
from slipway.model import unpacked

WHERE = "https://example.com/m"


def tar(folder: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    out = folder / "a.tar.gz"
    with tarfile.open(out, "w:gz", format=tarfile.PAX_FORMAT) as packed:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                packed.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                packed.addfile(info, io.BytesIO(member[1]))
    return out


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


def found(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("dotted", ["", "./"])
def test_a_link_within_becomes_the_file_it_leads_to(tmp_path: Path, dotted: str) -> None:
    archive = tar(
        tmp_path,
        special(f"{dotted}1", tarfile.DIRTYPE),
        (f"{dotted}1/a", b"content"),
        link(f"{dotted}1/b", "a"),
        link(f"{dotted}c", "1/b"),
        link(f"{dotted}d", f"{dotted}1/a", tarfile.LNKTYPE),
    )
    unpacked.unpack(archive, tmp_path / "out", WHERE)
    assert found(tmp_path / "out") == dict.fromkeys(("1/a", "1/b", "c", "d"), b"content")
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("../evil", b"x")], r"a file outside of its folder: \.\./evil"),
        ([("a/../../evil", b"x")], "a file outside of its folder"),
        ([("/etc/evil", b"x")], "a file outside of its folder: /etc/evil"),
        ([("a\\..\\evil", b"x")], "a file outside of its folder"),
        ([link("a", "/etc/passwd")], "a is a link to /etc/passwd, which is not in it"),
        ([link("a", "../../etc/passwd")], "which is not in it"),
        ([link("a", "b"), ("b/c", b"x")], "which is not in it"),
        ([link("a", "b"), link("b", "a")], "a is a link in a circle"),
        ([special("a", tarfile.CHRTYPE)], "a is no plain file"),
        ([special("a", tarfile.FIFOTYPE)], "a is no plain file"),
        ([("a", b"x"), ("a/b", b"x")], "a/b is a file and a folder in it"),
        ([("\x1b[2J/../x", b"x")], r"outside of its folder: \\x1b"),
    ],
)
def test_a_tar_that_leads_out_or_holds_more_than_files_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes] | tarfile.TarInfo], says: str
) -> None:
    with pytest.raises(ModelError, match=says) as refused:
        unpacked.unpack(tar(tmp_path, *members), tmp_path / "out" / "deep", WHERE)
    assert refused.value.where == WHERE
    assert not [name for name in found(tmp_path) if "evil" in name]


def test_a_header_that_asks_for_memory_is_refused(tmp_path: Path) -> None:
    header = special("x", tarfile.XHDTYPE)
    header.size = 1 << 32
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(4096)))
    with pytest.raises(ModelError, match="a header of it is larger than any name"):
        unpacked.unpack(archive, tmp_path / "out", WHERE)


def bomb(folder: Path) -> Path:
    member = tarfile.TarInfo("a")
    member.size = 1 << 40
    out = folder / "b.tar"
    out.write_bytes(member.tobuf() + bytes(1024))
    return out


def many(folder: Path) -> Path:
    return tar(folder, *((f"{number}", b"") for number in range(6)))


def full(folder: Path) -> Path:
    return tar(folder, ("a", bytes(100)))


@pytest.mark.parametrize(
    ("make", "says"),
    [(bomb, "more than 64 GiB"), (many, "more than 5 files"), (full, "more than the 99 bytes that are free")],
)
def test_more_than_there_may_be_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], says: str
) -> None:
    monkeypatch.setattr(unpacked, "MOST_FILES", 5)
    if make is full:
        monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 99}))
    with pytest.raises(ModelError, match=says):
        unpacked.unpack(make(tmp_path), tmp_path / "out", WHERE)
    assert sum(len(data) for data in found(tmp_path / "out").values()) == 0


def test_a_zip_is_held_to_the_same(tmp_path: Path) -> None:
    out = tmp_path / "a.zip"

    def packed(name: str, mode: int = 0) -> Path:
        with zipfile.ZipFile(out, "w") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"x")
        return out

    for name, mode, says in (
        ("../evil", 0, "outside of its folder"),
        ("/evil", 0, "outside of its folder"),
        ("a", stat.S_IFLNK | 0o777, "a is no plain file"),
    ):
        with pytest.raises(ModelError, match=says):
            unpacked.unpack(packed(name, mode), tmp_path / "out", WHERE)
    unpacked.unpack(packed("1/a", stat.S_IFREG | 0o600), tmp_path / "out", WHERE)
    assert found(tmp_path / "out") == {"1/a": b"x"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"BZh91AY", "but a bzip2 archive"),
        (b"\xfd7zXZ\0", "but an xz archive"),
        (b"(\xb5/\xfd", "but a zstd archive"),
        (b"<html>", "but no archive"),
        (b"", "but no archive"),
        (b"PK\x03\x04", "cannot be unpacked"),
        (b"\x1f\x8b\x08\0\0", "cannot be unpacked"),
        (gzip.compress(b"no tar in it, but more than nothing" * 40), "cannot be unpacked"),
    ],
    ids=["bzip2", "xz", "zstd", "a page", "nothing", "a cut zip", "a cut gzip", "no tar"],
)
def test_what_is_no_whole_archive_is_told(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=says):
        unpacked.unpack(file, tmp_path / "out", WHERE)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_archive_is_told(tmp_path: Path, share: float) -> None:
    whole = tar(tmp_path, ("a", bytes(range(256)) * 40), ("b", b"end")).read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="cannot be unpacked"):
        unpacked.unpack(cut, tmp_path / "out", WHERE)
