"""What engines keep of their own: folders beside a host's overlay, laid out from its root."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from slipway.core import process

# Below these an engine writes a file once and never again: layers, and blobs named by their content. What it
# changes in place, its databases first of all, lies elsewhere.
_WRITTEN_ONCE = (
    "io.containerd.content.v1.content/blobs",
    "io.containerd.snapshotter.v1.overlayfs/snapshots",
    "overlay2",
)


def lay(source: Path, target: Path) -> None:
    """Make `target` a copy of `source` that may be written to; an empty folder if there is no source.

    Files that are written once are shared with the source by hard links where the file system can.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir() or not any(source.iterdir()):
        target.mkdir()
        return
    if not _can_link(source, target.parent):
        process.run(["cp", "-a", "--reflink=auto", source, target])
        return
    process.run(["cp", "-a", "--link", source, target])
    for file in _changing(target):
        fresh = file.with_name(f".{file.name}.fresh")
        shutil.copy2(file, fresh)
        status = file.stat()
        os.chown(fresh, status.st_uid, status.st_gid)
        fresh.replace(file)


def _can_link(source: Path, folder: Path) -> bool:
    return source.stat().st_dev == folder.stat().st_dev


def _changing(folder: Path) -> Iterator[Path]:
    """Plain files outside of what is written once."""
    once = {str(folder / name) for name in _WRITTEN_ONCE}
    for where, below, names in os.walk(folder):
        below[:] = [name for name in below if f"{where}/{name}" not in once]
        for name in names:
            file = Path(where, name)
            if stat.S_ISREG(file.lstat().st_mode):
                yield file
