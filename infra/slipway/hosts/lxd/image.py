"""The image that hosts in LXD start from: the root that lab hosts have, as two tars that LXD imports."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.hosts.nspawn import golden


@contextmanager
def tars(root: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """A tar with LXD's metadata.yaml, and one of the root; both are gone at the end of the block.

    Raises EnvironmentFault where they cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".image-", dir=folder) as held:
        metadata, packed = Path(held) / "metadata.tar", Path(held) / "rootfs.tar"
        text = f"architecture: {os.uname().machine}\ncreation_date: {int(root.stat().st_mtime)}\n".encode()
        with tarfile.open(metadata, "w") as archive:
            entry = tarfile.TarInfo("metadata.yaml")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        golden.pack(root, packed)
        yield metadata, packed
