"""Archives of models: tar, tar.gz and zip, of which nothing is written outside of the folder meant for it.

Only plain files are written. A link becomes the file of the archive that it leads to, so that none can lead
out; what leads elsewhere is refused, as devices are.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from slipway.core import interrupt
from slipway.core.errors import ModelError
from slipway.core.user_files import printable

MOST_FILES = 100_000
LARGEST = 1 << 36  # bytes of all files; 64 GiB
_CHUNK = 1 << 20
_LARGEST_HEADER = 1 << 20  # bytes that a tar may say of one member
_ACTION = "pack the SavedModel's folder anew, as plain files: tar -czhf model.tar.gz DIRECTORY"


KINDS = ("tar", "tar.gz", "zip")


def kind(archive: Path) -> str:
    """One of KINDS by what the file begins with; else what it may be, as words for people."""
    with archive.open("rb") as file:
        head = file.read(512)
    for start, found in _BEGINNINGS.items():
        if head.startswith(start):
            return found
    return "tar" if head[257:262] == b"ustar" else "no archive"


_BEGINNINGS = {
    b"\x1f\x8b": "tar.gz",
    b"PK\x03\x04": "zip",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"(\xb5/\xfd": "a zstd archive",
}


def unpack(archive: Path, folder: Path, where: str, keep: Callable[[str], bool] = lambda _name: True) -> None:
    """Write an archive's files below `folder`, which may have some already.

    where: the address it is of, for messages. keep: whether a file of this name is wanted. Raises ModelError
    for what is no tar, tar.gz or zip, is damaged, holds what is no plain file, names a path outside, or has
    more than MOST_FILES files or LARGEST bytes.
    """
    found = kind(archive)
    if found not in KINDS:
        raise ModelError(f"is no tar, tar.gz or zip but {found}", where=where, action=_ACTION)
    files = _of_zip(archive) if found == "zip" else _of_tar(archive, gzipped=found == "tar.gz")
    folder.mkdir(parents=True, exist_ok=True)
    budget = _Budget(where, shutil.disk_usage(folder).free)
    try:
        for name, size, source in files:
            path = inside(name, where)
            if path == PurePosixPath() or not keep(path.as_posix()):
                continue
            budget.take(size)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with source() as content, target.open("wb") as out:
                while chunk := content.read(min(_CHUNK, size + 1)):
                    interrupt.check()
                    out.write(chunk)
                    if out.tell() > size:
                        raise ModelError(
                            f"{printable(name)} is longer than it says", where=where, action=_ACTION
                        )
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        _Odd,
        NotImplementedError,
    ) as error:
        raise ModelError(f"cannot be unpacked: {error}", where=where, action=_ACTION) from error
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise ModelError(
            f"cannot be unpacked: {printable(name)} is a file and a folder in it", where=where, action=_ACTION
        ) from error


def inside(name: str, where: str) -> PurePosixPath:
    """A name in an archive or store as a path below a folder. Raises ModelError for one that leads out."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ModelError(f"has a file outside of its folder: {printable(name)}", where=where, action=_ACTION)
    return path


class _Odd(Exception):
    """Something in an archive that no SavedModel has."""


class _Budget:
    """How much more may be written."""

    def __init__(self, where: str, free: int) -> None:
        self.where, self.free = where, free
        self.files = self.bytes = 0

    def take(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        if self.files > MOST_FILES:
            raise ModelError(f"has more than {MOST_FILES:,} files", where=self.where, action=_ACTION)
        if self.bytes > LARGEST:
            raise ModelError(
                f"has more than {LARGEST >> 30} GiB unpacked",
                where=self.where,
                action="set model.path to a folder with it",
            )
        if self.bytes > self.free:
            raise ModelError(
                f"has more than the {self.free:,} bytes that are free here",
                where=self.where,
                action="free space, or set SLIPWAY_CACHE to a larger disk",
            )


_Open = Callable[[], IO[bytes]]


def _of_zip(archive: Path) -> Iterator[tuple[str, int, _Open]]:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                continue
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise _Odd(f"{printable(member.filename)} is no plain file")
            if member.flag_bits & 1:
                raise _Odd(f"{printable(member.filename)} is encrypted")
            yield member.filename, member.file_size, partial(packed.open, member)


def _of_tar(archive: Path, *, gzipped: bool) -> Iterator[tuple[str, int, _Open]]:
    with _stream(archive, gzipped) as stream, tarfile.TarFile(fileobj=stream) as packed:
        for member in packed:
            if member.isdir():
                continue
            target = _target(packed, member)
            if not target.isreg():
                raise _Odd(f"{printable(member.name)} is no plain file")
            yield member.name.removeprefix("./"), target.size, partial(_content, packed, target)


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = packed.extractfile(member)
    if found is None:
        raise _Odd(f"{printable(member.name)} has no content")
    return found


def _target(packed: tarfile.TarFile, member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The member itself, or the one of the archive that a link leads to; a link elsewhere is refused."""
    seen: set[str] = set()
    found = member
    while found.issym() or found.islnk():
        if found.name in seen:
            raise _Odd(f"{printable(member.name)} is a link in a circle")
        seen.add(found.name)
        base = PurePosixPath(found.name).parent if found.issym() else PurePosixPath()
        meant = _normal(base / found.linkname)
        led_to = next((one for one in packed.getmembers() if _normal(PurePosixPath(one.name)) == meant), None)
        if led_to is None:
            raise _Odd(
                f"{printable(member.name)} is a link to {printable(found.linkname)}, which is not in it"
            )
        found = led_to
    return found


def _normal(path: PurePosixPath) -> str:
    out: list[str] = []
    for part in path.parts:
        if part == ".." and out:
            out.pop()
        else:
            out.append(part)
    return "/".join(out)


@contextmanager
def _stream(archive: Path, gzipped: bool) -> Iterator[Any]:
    with archive.open("rb") as raw:
        if not gzipped:
            yield _Bounded(raw)
            return
        with gzip.GzipFile(fileobj=raw) as plain:
            yield _Bounded(plain)


class _Bounded:
    """A file that is read in small pieces only: a tar's header may ask for any amount of memory."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise _Odd("a header of it is larger than any name")
        out: bytes = self._file.read(size)
        return out
