"""One file of a golden root, in a format that people take elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.artifacts.cache import sha256_of
from slipway.core import events
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, UsageError
from slipway.core.events import Note
from slipway.core.lock import flock
from slipway.core.schema import Settings
from slipway.core.state import cache_folder
from slipway.hosts.formats import disk, oci, tarball
from slipway.hosts.formats.names import Format
from slipway.hosts.formats.neutral_root import NeutralRoot, neutral
from slipway.hosts.lxd import image
from slipway.hosts.nspawn import controller, golden, inherit

LOCK = ".images.lock"


@dataclass(frozen=True)
class Written:
    """The file, how large it is, and its checksum in hex."""

    file: Path
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Way:
    """How a format is written. endings: of its files, the usual one first. programs: and the package of each.

    packages: what is installed for it. boot: what fills a boot partition. mark: of its file in the cache.
    """

    endings: tuple[str, ...]
    programs: Mapping[str, str]
    write: Callable[[NeutralRoot, Path], None]
    packages: Callable[[Path], Sequence[str]] | None = None
    boot: Path | None = None
    mark: str = ""


def _tar(opened: NeutralRoot, file: Path) -> None:
    tarball.pack(opened.tree, file, within=opened.words)


def _lxd(opened: NeutralRoot, file: Path) -> None:
    image.write(opened.root, file, opened.folder, within=opened.words, tree=opened.tree)


def _names_by_dhcp(_: Path) -> tuple[str, ...]:
    """LXD tells a container its name servers by DHCP alone."""
    return ("systemd-resolved",)


_TARS = (".tar.zst", *(one for one in tarball.ENDINGS if one != ".tar.zst"))
_WAYS: dict[Format, _Way] = {
    "tar": _Way(_TARS, {"tar": "tar"}, _tar),
    "lxd": _Way(_TARS, {"tar": "tar"}, _lxd, _names_by_dhcp, mark="-lxd"),
    "qcow2": _Way((".qcow2",), disk.PROGRAMS, disk.write, disk.packages, disk.BOOT),
    "oci": _Way((".tar",), oci.PROGRAMS, oci.write, mark="-oci"),
}


def check(kind: Format, file: Path | None) -> None:
    """Raise what would keep a root from being written, before one is baked for it.

    UsageError for a file that cannot be, EnvironmentFault for a program that is not here.
    """
    way = _WAYS[kind]
    ending = way.endings[0] if file is None else _ending(file, way.endings)
    if file is not None and not ending:
        raise UsageError(
            f"{file} is no name for format {kind}",
            where="--output",
            action=f"expected it to end in {_listed(way.endings)}",
        )
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        why = "is a folder" if file.is_dir() else "is in a folder that does not exist"
        raise UsageError(f"{file} {why}", where="--output", action="name a file in a folder that exists")
    packer = {} if kind == "qcow2" else _packer(ending)
    missing = {
        name: package for name, package in {**way.programs, **packer}.items() if shutil.which(name) is None
    }
    if missing:
        raise EnvironmentFault(
            f"format {kind} is written with programs that are not here: {', '.join(missing)}",
            action=f"apt-get install {' '.join(dict.fromkeys(missing.values()))}",
        )


def write(ctx: Context, settings: Settings, root: Path, kind: Format, file: Path | None) -> Written:
    """Write a golden root without its site. file: where, None for a place in the cache, which is told.

    What was there before stays until the new file is whole. Raises EnvironmentFault where it cannot be
    written; nothing half made is left then, and what a killed run left is removed.
    """
    way = _WAYS[kind]
    folder = cache_folder(ctx.cache, "images")
    target = (file or folder / f"{root.name}{way.mark}{way.endings[0]}").absolute()
    beside = target.with_name(f".partial-{target.name}")
    site = inherit.site(settings.site, settings.hosts.suite)
    packages = way.packages(root) if way.packages is not None else ()
    waiting = Note("another run is writing an image of the hosts' root; waiting for it")
    with flock(
        folder / LOCK, "another run that writes an image", timeout=3600, on_wait=lambda: ctx.emit(waiting)
    ):
        controller.need_disk(folder, golden.DISK_BYTES, f"an image of format {kind}")
        ctx.emit(Note(f"writing {target}"))
        try:
            with (
                events.progress(ctx.emit, f"image {kind}"),
                neutral(ctx, root, site, folder / ".making", packages, boot=way.boot) as opened,
            ):
                way.write(opened, beside)
            checksum, size = sha256_of(beside), beside.stat().st_size
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    return Written(target, size, checksum)


def _ending(file: Path, endings: Sequence[str]) -> str:
    return next((one for one in endings if file.name.endswith(one) and file.name != one), "")


def _packer(ending: str) -> dict[str, str]:
    package = tarball.ENDINGS[ending]
    program = {"xz-utils": "xz"}.get(package, package)
    return {program: package}


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
