"""Build contexts as tars, straight from wheels and folders: same input, same bytes.

Two contexts make two images, so that a new model moves and builds only its own few hundred KB:
`runtime` (base and packages) and `server` (slipway's serving code and the SavedModel).

The controller unpacks the wheels itself, from zip to tar, and drops what contents.py says on the
way. `pip install` in the Dockerfile would need pip in the base image, carry 300 MB of wheels to the
build host to delete most of them again, and could not be tested without Docker.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Protocol

from slipway_stacks.outputs import METRICS_PATH

from slipway.artifacts.cache import digest_of
from slipway.artifacts.oci import EPOCH
from slipway.core import interrupt
from slipway.core.errors import ImageError
from slipway.core.types import ExportedModel
from slipway.image.contents import Server, wanted

# The packages of others; a wheel of slipway's own has no hash that could stand in a lock.
LOCK = Path(__file__).with_name("requirements.lock")
DOCKERFILES = {"portable": "Dockerfile.portable", "tensorflow": "Dockerfile.tensorflow"}
RUNTIME = "Dockerfile.runtime"
MODELS_CONFIG = "models/models.config"  # in an image of several models; the entrypoints look for it
_RULES = ("contents.py", "build_context.py")  # a change of these changes what is in the image
# What opens the metrics: a MonitoringConfig in protobuf's text form, as both servers read it
MONITORING = f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n'.encode()
_LARGE = 1 << 20  # bytes; smaller libraries are not worth cutting
_HEAD = 1 << 16
_BLOCK = 1 << 20


class Readable(Protocol):
    """What a member's bytes are read from, once."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """One file of a context: its path, its bytes' length, where they are read from."""

    path: str
    size: int
    content: Readable
    mode: int = 0o644


def runtime_tag(base: str, lock: Path, server: Server, machine: str) -> str:
    """Names base and packages by what decides them; the same tag holds the same files."""
    rules = [_own(name) for name in (RUNTIME, *_RULES)]
    return digest_of(base, server, machine, lock.read_bytes(), *rules)


def server_tag(
    runtime: str, server: Server, code: Mapping[str, bytes], model: ExportedModel, program: str = ""
) -> str:
    """Names the whole image by what decides it: "<model version>-<hash>".

    code: see own_wheels.files. program: names the server's program, where it is no part of code.
    """
    own = [_own(DOCKERFILES[server]), program.encode()]
    files = [part for path, content in code.items() for part in (path, content)]
    models = [part for one in model.served for part in (one.name, str(one.version), one.sha256)]
    whole = digest_of(runtime, *own, MONITORING, *models, *files)
    return f"{model.version}-{whole[:16]}"


def write_runtime(out: Path, wheels: Path, server: Server) -> None:
    """Write the context of base and packages. wheels: a folder of checked wheels.

    Raises ImageError when a wheel cannot be read; `out` is then not there.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise ImageError(
            "there are no wheels for the image",
            where=str(wheels),
            action="remove this folder and run again; the wheels are fetched anew",
        )
    _write(out, _runtime(found, server))


def write_server(
    out: Path, server: Server, code: Mapping[str, bytes], model: ExportedModel, program: Path | None = None
) -> None:
    """Write the context of serving code (path -> bytes, see own_wheels.files) and SavedModel.

    program: a root with the server's program, where it is no part of code.
    """
    _write(out, _server(server, code, model, program))


def _runtime(found: list[Path], server: Server) -> Iterator[Member]:
    yield _bytes("Dockerfile", _own(RUNTIME))
    seen: dict[str, Path] = {}
    for wheel in found:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for path, info in _unpacked(archive, wheel):
                    if path in seen and not path.endswith("__init__.py"):
                        raise ImageError(
                            f"{path} is in {seen[path].name} and in {wheel.name}",
                            action=f"let only one of them be in {LOCK.name}: the image has one place for it",
                        )
                    if path in seen or not wanted(path, server):
                        continue
                    seen[path] = wheel
                    with archive.open(info) as content:
                        entry = _Entry(wheel, content)
                        yield cut(Member(f"site-packages/{path}", info.file_size, entry))
        except (zipfile.BadZipFile, OSError) as error:
            raise _unreadable(wheel, error) from error


class _Entry:
    """A file in a wheel; what is wrong with it comes up while it is read."""

    def __init__(self, wheel: Path, content: Readable) -> None:
        self._wheel = wheel
        self._content = content

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._content.read(size)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise _unreadable(self._wheel, error) from error


def _unreadable(wheel: Path, error: Exception) -> ImageError:
    return ImageError(
        f"cannot read the wheel {wheel.name}: {error}",
        where=str(wheel),
        action="remove this file and run again; it is fetched anew",
    )


def _unpacked(archive: zipfile.ZipFile, wheel: Path) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """(path in site-packages, entry) of each file, as an installer lays them out, in a fixed order."""
    for info in sorted(archive.infolist(), key=lambda one: one.filename):
        parts = PurePosixPath(info.filename).parts
        if info.is_dir() or not parts:
            continue
        if parts[0] == "/" or ".." in parts:
            raise ImageError(
                f"the wheel {wheel.name} holds a path outside of it: {info.filename}",
                where=str(wheel),
                action=f"do not use it: name another version, or another package, in {LOCK.name}",
            )
        if parts[0].endswith(".data"):
            if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                continue  # scripts, headers and data are for people and compilers
            parts = parts[2:]
        yield "/".join(parts), info


def cut(member: Member) -> Member:
    """A large shared library without its symbol table: the loader reads nothing behind the last segment.

    TensorFlow's runtime library is 205 MB smaller for it. Anything else is passed on as it is.
    """
    if member.size < _LARGE or ".so" not in PurePosixPath(member.path).name:
        return member
    head = member.content.read(_HEAD)
    end = _loaded_end(head)
    rest = _Joined(head, member.content)
    if end is None or not len(head) <= end < member.size:
        return Member(member.path, member.size, rest, member.mode)
    # No section headers any more: offset 40 is e_shoff, 58 on are their size, count and string table.
    cut_head = head[:40] + bytes(8) + head[48:58] + bytes(6) + head[64:]
    return Member(member.path, end, _Joined(cut_head, member.content), member.mode)


def _loaded_end(head: bytes) -> int | None:
    """Where the last segment of a 64-bit little-endian ELF file ends; None when this is not one."""
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
        return None
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    if size < 56 or not count or offset + size * count > len(head):
        return None
    ends: list[int] = []
    for index in range(count):
        at = offset + index * size
        (start,) = struct.unpack_from("<Q", head, at + 8)
        (length,) = struct.unpack_from("<Q", head, at + 32)
        ends.append(start + length)
    return max(ends)


class _Joined:
    """Bytes already read, then the rest of the file they came from."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._rest.read(size)
        taken, self._head = self._head[:size], self._head[size:] if size >= 0 else self._head[:0]
        return bytes(taken) if size >= 0 else bytes(taken) + self._rest.read()


def _server(
    server: Server, code: Mapping[str, bytes], model: ExportedModel, program: Path | None
) -> Iterator[Member]:
    yield _bytes("Dockerfile", _own(DOCKERFILES[server]))
    if program is not None:
        yield from _folder(program, "server")
    yield _bytes("monitoring.config", MONITORING)
    for file, source in code.items():
        yield _bytes(file, source, mode=0o755 if file.startswith("bin/") else 0o644)
    for one in model.served:
        yield from _model(one)
    if model.beside:
        yield _bytes(MODELS_CONFIG, models_config(one.name for one in model.served).encode())


def models_config(names: Iterable[str]) -> str:
    """A ModelServerConfig in protobuf's text format, as --model_config_file reads it."""
    listed = "".join(
        f'  config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}\n'
        for name in names
    )
    return f"model_config_list {{\n{listed}}}\n"


def _model(model: ExportedModel) -> Iterator[Member]:
    for member in _folder(model.path, f"models/{model.name}/{model.version}"):
        yield replace(member, mode=0o644)


def _folder(folder: Path, inside: str) -> Iterator[Member]:
    """Its files, programs as such."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            with path.open("rb") as content:
                mode = 0o755 if stat.st_mode & 0o100 else 0o644
                yield Member(f"{inside}/{path.relative_to(folder).as_posix()}", stat.st_size, content, mode)


def _own(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()


def _bytes(path: str, content: bytes, mode: int = 0o644) -> Member:
    return Member(path, len(content), io.BytesIO(content), mode)


def _write(out: Path, members: Iterable[Member]) -> None:
    """Write beside and rename: a context that is there is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.new")
    try:
        with (
            beside.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK) as archive,
        ):
            for member in members:
                interrupt.check()
                info = tarfile.TarInfo(member.path)
                info.size, info.mode, info.mtime = member.size, member.mode, EPOCH
                archive.addfile(info, member.content)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
