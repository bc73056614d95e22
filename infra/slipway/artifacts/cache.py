"""The cache: what was built or fetched once, whole, with the checksums recorded when it was made.

An entry is a folder `artifacts/<name>-<key>`; the key is a hash of everything that decides its
content (lock rows, go.sum, recipe), so another pin is another entry. It is made beside and renamed,
under a lock of its own that the kernel drops when its holder dies: neither `kill -9` nor a second
run at the same time leaves anything that could be taken for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from slipway.core import ownership
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, EnvironmentFault, LockHeld, NotCached, Timeout
from slipway.core.events import Note
from slipway.core.lock import flock
from slipway.core.state import CACHED, cache_folder, remove

SUMS = "SHA256SUMS.json"
_CHUNK = 1 << 20
# (path, size, mtime, inode) -> sha256 of files this process has read whole already: a run asks for
# the same artifacts in several stages, and half a gigabyte need not be read each time.
_seen: dict[tuple[str, int, int, int], str] = {}


def digest_of(*parts: str | bytes) -> str:
    """SHA-256 over parts and where each ends: ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def key_of(*parts: str | bytes) -> str:
    """A key from everything that decides an entry's content."""
    return digest_of(*parts)[:20]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read once per process as long as the file stays as it is."""
    stat = path.stat()
    seen = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if seen not in _seen:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        _seen[seen] = digest.hexdigest()
    return _seen[seen]


def home(ctx: Context) -> Path:
    """The folder of all entries. Raises EnvironmentFault when it cannot be made or is not ours alone."""
    return cache_folder(ctx.cache, "artifacts")


def find(ctx: Context, name: str, key: str) -> Path | None:
    """The entry's folder if it is whole and unchanged, else None.

    Raises EnvironmentFault if somebody else can write it: what it is held against lies in it too.
    """
    folder = home(ctx) / f"{name}-{key}"
    ownership.require_own("the cached artifact", folder)
    return folder if folder.is_dir() and not damage(folder) else None


def entry(ctx: Context, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The entry's folder: the cached one if it is whole and unchanged, else made by `make(folder)`.

    A changed or truncated entry is thrown away and made again, which is said in a Note. Waits while
    another process makes the same entry. When `make` raises, nothing is left of it. Raises NotCached where
    nothing is to be made.
    """
    folder = home(ctx) / f"{name}-{key}"
    found = find(ctx, name, key)
    if found is not None:
        return found
    if ctx.cached_only:
        raise NotCached(
            f"{name} is not in the cache", where=str(folder.parent), action="`slipway up` gets it"
        )
    waiting = Note(f"another run is making {folder.name}; waiting for it")
    with flock(
        folder.with_name(f".{folder.name}.lock"),
        "another run",
        timeout=None,
        on_wait=lambda: ctx.emit(waiting),
    ):
        if folder.is_dir():
            wrong = damage(folder)
            if not wrong:
                return folder  # another process made it while this one waited
            ctx.emit(Note(f"cached {name} is not what was recorded ({wrong}); making it again"))
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            folder.rename(aside / "damaged")
        for left in folder.parent.glob(f".{folder.name}.*"):
            if left.is_dir():  # of a process that was killed: the lock is ours now
                shutil.rmtree(left)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            beside.chmod(0o755)
            make(beside)
            _record(beside)
            beside.rename(folder)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write {name} to the cache: {error.strerror or error}",
                where=str(folder.parent),
                action="free space there, or set SLIPWAY_CACHE to another folder",
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return folder


def clear(ctx: Context) -> list[str]:
    """Remove slipway's own folders of the cache; the cache itself and what else lies in it stay.

    Returns a line for each. Raises LockHeld while another run fills the cache, EnvironmentFault while
    something is mounted in what would be removed.
    """
    folders = [ctx.cache / name for name in CACHED]
    mounts = mounted_below(folders)
    if mounts:
        raise EnvironmentFault(
            f"something is mounted in the cache: {mounts[0]}", action=f"umount {mounts[0]}, and repeat this"
        )
    made = [ctx.cache / name for name in ("artifacts", "roots")]
    whole = [ctx.cache / name for name in ("roots", "image")]
    locks = [*(lock for folder in made for lock in folder.glob(".*.lock")), *whole]
    with ExitStack() as stack:
        for lock in filter(Path.exists, locks):
            try:
                stack.enter_context(flock(lock, "another run", timeout=0))
            except Timeout:
                raise LockHeld(
                    f"another run is filling the cache {ctx.cache}", action="wait for it to end"
                ) from None
        return [line for folder in folders for line in remove(folder)]


def mounted_below(folders: list[Path], table: Path = Path("/proc/self/mountinfo")) -> list[Path]:
    """Where something is mounted at or below these folders."""
    try:
        points = [line.split()[4] for line in table.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:  # not Linux
        return []
    named = [Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)) for point in points]
    return [point for point in named if any(point.is_relative_to(folder.resolve()) for folder in folders)]


def damage(folder: Path) -> str:
    """What is wrong with an entry: missing, truncated, changed or unknown files; empty if nothing is."""
    try:
        sums: dict[str, tuple[str, int]] = {
            name: (row["sha256"], row["size"])
            for name, row in json.loads((folder / SUMS).read_text())["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{SUMS} cannot be read: {error!r}"
    there = {str(path.relative_to(folder)) for path in _files(folder)}
    if there != set(sums):
        odd = sorted(there ^ set(sums))[0]
        return f"{odd} is {'missing' if odd in sums else 'not one of its files'}"
    for name, (sha256, size) in sorted(sums.items()):
        path = folder / name
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if sha256_of(path) != sha256:
            return f"{name} has another sha256"
    return ""


def link(source: Path, destination: Path) -> None:
    """The same file under another name, without a second copy where the file system can."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, destination)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, destination)


def only(found: list[Path], what: str, where: Path) -> Path:
    """The one file a pattern must have matched. Raises ArtifactError otherwise."""
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ArtifactError(
            f"expected one {what}, found {names}",
            where=str(where),
            action="run again with --verbose, which tells what was fetched; the site's mirror may serve "
            "another",
        )
    return found[0]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS]


def _record(folder: Path) -> None:
    files = {}
    for path in sorted(_files(folder)):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut after the rename leaves empty files
        files[str(path.relative_to(folder))] = {"sha256": sha256_of(path), "size": path.stat().st_size}
    (folder / SUMS).write_text(json.dumps({"files": files}, indent=1, sort_keys=True) + "\n")
