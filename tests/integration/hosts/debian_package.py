"""Packages of the distribution, unpacked into a folder and not installed."""

from __future__ import annotations

import re
from pathlib import Path

from slipway.core import process


def unpacked(package: str, folder: Path, *, with_needed: bool = False) -> Path:
    """The root that a package unpacks to; with_needed: and what it needs that is not installed here."""
    names = [package]
    if with_needed:
        wanted = ["apt-get", "install", "--yes", "--no-install-recommends", "--print-uris", package]
        listed = process.run(wanted, timeout=120).stdout
        names = re.findall(r"^'[^']+' ([^_ ]+)_", listed, re.M) or names
    process.run(["apt-get", "download", "--quiet", *names], cwd=folder, timeout=300)
    for file in folder.glob("*.deb"):
        process.run(["dpkg-deb", "--extract", file, folder / "root"], timeout=120)
    return folder / "root"
