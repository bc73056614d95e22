"""Models at addresses: which files there are a SavedModel's, and bringing them into a folder here.

A store (S3, Google Cloud Storage, Hugging Face, a folder) is listed, and only the SavedModel's own files are
asked for. A file, which is all that HTTPS has, must be an archive. A registry's layers are
`slipway.model.oci_models`'.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from slipway.clients.remote_files import RemoteFile, RemoteFiles
from slipway.core.errors import ArtifactError, ModelError
from slipway.core.events import Emit, counted
from slipway.model import unpacked

_MARKS = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class Place:
    """Where a SavedModel is among files: its folder, empty for the top; its version if that is the name."""

    folder: str
    version: int | None

    def has(self, name: str) -> bool:
        """Whether this file is one of the SavedModel's."""
        return not self.folder or name.startswith(f"{self.folder}/")

    def below(self, name: str) -> str:
        """The file's name within the SavedModel."""
        return name[len(self.folder) + 1 :] if self.folder else name


class Source(Protocol):
    """What is at an address, as it is when it is looked at."""

    def identity(self) -> tuple[str, ...]:
        """What changes when something there does. Asks the network."""
        ...

    def bring(self, parts: Path, emit: Emit) -> tuple[Path, int | None]:
        """The SavedModel's folder below `parts`, and its version if the address names one.

        parts: what came of it before; kept when this raises, so that the next try goes on from there.
        """
        ...


def place(names: Collection[str], where: str) -> Place:
    """The SavedModel among files: the one there is, of several version folders beside each other the newest.

    Raises ModelError where there is none, and where there are several models.
    """
    holders = {str(PurePosixPath(name).parent) for name in names if PurePosixPath(name).name in _MARKS}
    # a SavedModel may carry others among its assets
    tops = {one for one in holders if not any(str(up) in holders for up in PurePosixPath(one).parents)}
    models: dict[str, list[str]] = {}
    for one in tops:
        path = PurePosixPath(one)
        models.setdefault(str(path.parent) if _version(path.name) is not None else one, []).append(one)
    if not models:
        raise ModelError(
            "holds no SavedModel: no saved_model.pb is among its files",
            where=where,
            action="give the address of a SavedModel's folder, of its parent with folders 1, 2, ..., or "
            "of an archive of either",
        )
    if len(models) > 1:
        listed = ", ".join(sorted(models)[:10])
        raise ModelError(f"holds {len(models)} models: {listed}", where=where, action="name one of them")
    ((_, found),) = models.items()
    newest = max(found, key=lambda one: _version(PurePosixPath(one).name) or 0)
    return Place("" if newest == "." else newest, _version(PurePosixPath(newest).name))


def named_version(address: str) -> int | None:
    """The version that an address ends with, as s3://models/mnist/3 does."""
    return _version(PurePosixPath(unquote(urlsplit(address).path)).name)


def _version(name: str) -> int | None:
    return int(name) if name.isascii() and name.isdigit() else None


@dataclass
class Stored:
    """Files in a store, or an archive there."""

    address: str

    def identity(self) -> tuple[str, ...]:
        """Name, size and tag of each file of the SavedModel, or of the archive."""
        return tuple(f"{file.name} {file.size} {file.tag}" for file in self._first[0])

    def bring(self, parts: Path, emit: Emit) -> tuple[Path, int | None]:
        """Fetch them file by file. Raises ArtifactError, also when one changed meanwhile, or ModelError."""
        before, found = self._first
        store = RemoteFiles(self.address)
        fetched = parts / "files"
        sizes = [file.size for file in before]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        with counted(emit, f"fetch {self.address}", total, "B") as came:
            for file in before:
                self._fetch(store, file, fetched, came)
        if self._look()[0] != before:
            raise ArtifactError(
                "changed while it was fetched", where=self.address, action="run again; it is fetched anew"
            )
        if found is not None:
            return fetched / found.folder, found.version
        return of_archive(fetched / "archive", parts / "unpacked", self.address)

    def _fetch(self, store: RemoteFiles, file: RemoteFile, folder: Path, came: Callable[[int], None]) -> None:
        target = folder / (unpacked.inside(file.name, self.address) if file.name else "archive")
        if target.exists() and target.stat().st_size == file.size:
            came(target.stat().st_size)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        store.read(file, part, came)
        part.replace(target)

    @cached_property
    def _first(self) -> tuple[tuple[RemoteFile, ...], Place | None]:
        return self._look()

    def _look(self) -> tuple[tuple[RemoteFile, ...], Place | None]:
        """The files to fetch, and where the SavedModel is among them; no place for an archive."""
        listed = RemoteFiles(self.address).listed()
        if [file.name for file in listed] == [""]:
            return listed, None
        found = place([file.name for file in listed], self.address)
        return tuple(file for file in listed if found.has(file.name)), found


def of_archive(archive: Path, tree: Path, where: str) -> tuple[Path, int | None]:
    """The SavedModel in an archive that is unpacked into `tree`; as `Source.bring` hands it on."""
    unpacked.unpack(archive, tree, where)
    return of_tree(tree, where)


def of_tree(tree: Path, where: str) -> tuple[Path, int | None]:
    """The SavedModel among the files of a folder; as `Source.bring` hands it on."""
    names = [path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()]
    found = place(names, where)
    return tree / found.folder, found.version


def source(address: str) -> Source:
    """Who brings what is at this address."""
    if address.startswith("oci://"):
        from slipway.model.oci_models import Artifact

        return Artifact(address)
    return Stored(address)


def file(address: str, folder: Path) -> Path:
    """A single file at an address, such as a signature, brought into `folder`. Raises ArtifactError."""
    if address.startswith("oci://"):
        raise ArtifactError(
            "is no file: a registry has artifacts", where=address, action="name a file with it"
        )
    store = RemoteFiles(address)
    listed = store.listed()
    if [one.name for one in listed] != [""]:
        raise ArtifactError("is a folder, and not a file", where=address)
    if (listed[0].size or 0) > _LARGEST_SIGNATURE:
        raise ArtifactError(f"has {listed[0].size:,} bytes, which no signature has", where=address)
    part = folder / "signature"
    with suppress(FileNotFoundError):
        part.unlink()
    store.read(listed[0], part, lambda _count: None)
    return part


_LARGEST_SIGNATURE = 64 << 20  # one names every file of its model
