"""artifacts.lock: every file from outside with its version, platform, address and pinned sha256.

A hash is copied from the public source its row names. Where none gives one, the row has no hash and the
file is refused when it is asked for: a hash is never guessed, and never taken from the download itself.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from slipway.artifacts import machine
from slipway.core.errors import ArtifactError

PATH = Path(__file__).parent / "artifacts.lock"
_MEND = (
    "correct it there, or take back what was published: git checkout infra/slipway/artifacts/artifacts.lock"
)


@dataclass(frozen=True)
class Row:
    """One file. size in bytes, 0 if no public source gives it; sha256 "" likewise.

    h1: in the place of sha256, what the checksum database of Go gives for a module's zip. url is empty for
    what a Go module proxy or container engine is asked for by name.
    """

    name: str
    version: str
    platform: str
    url: str = ""
    sha256: str = ""
    size: int = 0
    hash_source: str = ""
    h1: str = ""

    @property
    def hash(self) -> str:
        """Whichever hash it is pinned by, "" if none."""
        return self.sha256 or self.h1

    def pinned(self) -> Row:
        """The row itself. Raises ArtifactError when it has no hash."""
        if not self.hash:
            raise ArtifactError(
                f"{self.name} {self.version} for {self.platform} is not downloaded: "
                "no public source known to slipway gives its hash",
                where=PATH.name,
                action=f"install {self.name} {self.version} yourself, or add its hash and where you have "
                f"it from to {PATH}",
            )
        return self


def rows(path: Path = PATH) -> tuple[Row, ...]:
    """All rows. Raises ArtifactError when the file is not a lock."""
    try:
        found = tuple(Row(**row) for row in tomllib.loads(path.read_text())["artifact"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"cannot read the lock: {error}", where=str(path), action=_MEND) from error
    for row in found:
        wrong = _wrong(row)
        if wrong:
            raise ArtifactError(f"{row.name} {row.version}: {wrong}", where=str(path), action=_MEND)
    return found


def row(name: str, platform: str = "", path: Path = PATH, *, version: str = "") -> Row:
    """The row of `name` for this machine's platform (or the given one), hashed or not.

    version: which of several; any when empty.
    """
    platform = platform or f"linux/{machine.architecture()}"
    for one in rows(path):
        if one.name == name and one.platform in (platform, "any") and version in ("", one.version):
            return one
    raise ArtifactError(
        f"no row for {' '.join(filter(None, (name, version)))} on {platform}",
        where=str(path),
        action="use a machine of another architecture, or add a row with the sha256 its publisher gives",
    )


def _wrong(row: Row) -> str:
    if row.sha256 and (len(row.sha256) != 64 or set(row.sha256) - set("0123456789abcdef")):
        return f"sha256 is not 64 hexadecimal digits: {row.sha256}"
    if row.h1 and not re.fullmatch(r"h1:[A-Za-z0-9+/]{43}=", row.h1):
        return f"h1 is not a hash of Go's checksum database: {row.h1}"
    if row.h1 and row.sha256:
        return "one hash is enough: sha256 or h1"
    if bool(row.hash) != bool(row.hash_source):
        return "a hash and hash_source go together"
    if row.url and not row.url.startswith("https://"):
        return f"url is not https: {row.url}"
    return ""
