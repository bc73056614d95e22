"""What lies in the folders of versions: which there are, what their files are, whether one is whole."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any

from slipway_server.codes import Code, StatusError

# Files that were written so lately may still be copied. A folder that was renamed into place has older ones.
SETTLE_SECONDS = 1.0
# What absl::SimpleAtoi takes for a number: file_system_storage_path_source.cc:87, ParseVersionNumber
_VERSION = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*")
_INDEX = Path("variables") / "variables.index"
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})

# Of every file: name, size, and when content and entry were last changed, in nanoseconds.
Files = tuple[tuple[str, int, int, int], ...]


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders in a model's folder, by number. Raises OSError when it cannot be read.

    Of two with the same number (1 and 001) the last by name counts, as in IndexChildrenByVersion.
    """
    found: dict[int, Path] = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if _VERSION.fullmatch(entry.name) and entry.is_dir() and -(2**63) <= int(entry.name) < 2**63:
                found[int(entry.name)] = Path(entry.path)
    return found


def files_of(path: Path) -> Files:
    """The files of a SavedModel's folder. A repaired version has other ones.

    Files that vanish meanwhile, as when a version is being copied here, are left out.
    """
    out = []
    for folder, folders, names in os.walk(path):
        if folder == str(path):
            # What else lies beside them, such as a log, is none of the model's and may change for ever.
            folders[:] = [name for name in folders if name in ("variables", "assets", "assets.extra")]
            names[:] = [name for name in names if name.endswith((".pb", ".pbtxt", ".cpb"))]
        for name in names:
            file = Path(folder, name)
            try:
                facts = file.stat()
            except OSError:
                continue
            out.append((str(file), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
    if not out:  # perhaps only made just now
        with contextlib.suppress(OSError):
            facts = path.stat()
            out.append((str(path), 0, facts.st_mtime_ns, facts.st_ctime_ns))
    return tuple(sorted(out))


def settled(files: Files, seconds: float) -> bool:
    """Whether none of the files was written or put there within the last `seconds`."""
    newest = max((changed for *_, changed in files), default=0)
    return abs(time.time_ns() - newest) > seconds * 1e9


def check_whole(path: Path, graph: Any) -> None:
    """Raise StatusError when files are missing that TensorFlow loads a SavedModel without.

    graph: its MetaGraphDef. Without variables.index no variable gets a value, and every request fails
    (cc/saved_model/loader.cc, RunRestore); an asset is missed where it is read, which may be in a request.
    """
    if graph.saver_def.restore_op_name and not (path / _INDEX).exists():
        names = [node.name for node in graph.graph_def.node if node.op in _VARIABLES]
        if names:
            raise _incomplete(f"{_INDEX} is not there, and the graph has {len(names)} variables ({names[0]})")
    for asset in graph.asset_file_def:
        if not (path / "assets" / asset.filename).exists():
            raise _incomplete(f"assets/{asset.filename} is not there, and the graph reads it")


def _incomplete(what: str) -> StatusError:
    return StatusError(
        Code.FAILED_PRECONDITION,
        f"{what}: the version is not whole, and is tried again when its files change",
    )
