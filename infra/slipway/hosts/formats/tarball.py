"""A root as a tar: owners by number, capabilities in it, holes as holes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault

# How it is compressed follows from the name -> the package that has what compresses it
ENDINGS = {".tar": "tar", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.xz": "xz-utils", ".tar.zst": "zstd"}
_KEPT = (
    "--xattrs",
    "--xattrs-include=*",
    "--acls",
    "--numeric-owner",
    "--sort=name",
    "--sparse",
    "--format=posix",
)


def pack(
    root: Path,
    file: Path,
    *,
    within: Sequence[str | Path] = (),
    before: Path | None = None,
    under: str = "",
    without: Sequence[str] = (),
) -> None:
    """Write a root as a tar, compressed as the file's name says.

    within: words of a command that runs another one, for which the root is there. before: a folder whose
    files come first. under: the folder that the root is in the tar, "" for none. without: folders of the root
    that are left empty. Raises EnvironmentFault where it cannot be written; what was there before stays then.
    """
    beside = file.with_name(f".partial-{file.name}")  # tar knows how to compress by the end of the name
    words: list[str | Path] = [
        *within,
        "tar",
        "--create",
        "--auto-compress",
        *_KEPT,
        "--file",
        beside.absolute(),
    ]
    words += [f"--exclude=./{name}/*" for name in without]
    if under:  # of names and what hard links lead to, but not of what symbolic links say
        words.append(rf"--transform=flags=rhS;s,^\.\(/\|$\),{under}\1,")
    if before is not None:
        words += ["--directory", before.absolute(), *sorted(path.name for path in before.iterdir())]
    words += ["--directory", root.absolute(), "."]
    try:
        process.run(words, env={"ZSTD_NBTHREADS": str(os.cpu_count() or 1)})
        beside.rename(file)
    except (CommandError, OSError) as error:
        raise EnvironmentFault(
            f"the root cannot be written to {file}",
            tail=error.output if isinstance(error, CommandError) else str(error),
            action="give a file in a folder that exists and has room for it",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
