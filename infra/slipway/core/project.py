"""Where the parts of slipway lie that are not Python modules: playbooks, the Pulumi program, its version.

In a checkout they stand at its root. An installed driver carries them inside its own package, put
there by pyproject.toml and hatch_build.py; nothing ever writes into that folder.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

from slipway.core import process
from slipway.core.errors import EnvironmentFault

DISTRIBUTION = "slipway-serving"
# Below the folder with playbooks/
COLLECTION = Path("playbooks/collections/ansible_collections/slipway/serving")
_PACKAGE = Path(__file__).resolve().parents[1]
_CARRIED = _PACKAGE / "project"
# The wheels of slipway's own that the serving image takes; a checkout builds them when they are needed.
WHEELS = _PACKAGE / "wheels"


def checkout() -> Path | None:
    """The root of the checkout this runs from, None for an installed driver."""
    return None if _CARRIED.is_dir() else _PACKAGE.parents[1]


def folder() -> Path:
    """The folder with playbooks/, stacks/ and Pulumi.yaml."""
    return checkout() or _CARRIED


def carried(folder: Path) -> bool:
    """Whether this is the folder an installed driver carries, where nothing may be written."""
    return checkout() is None and folder == _CARRIED


def version() -> str:
    """slipway's own version: the checkout's or the wheel's.

    An older installation in a checkout's .venv may tell another one.
    """
    root = checkout()
    if root is None:
        return importlib.metadata.version(DISTRIBUTION)
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def revision() -> str | None:
    """The commit of the checkout this runs from, with "-dirty" where files differ from it; None if unknown.

    Unknown for an installed driver, without git, and where git does not trust the folder's owner.
    """
    root = checkout()
    if root is None:
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        told = process.run(words, timeout=30, check=False)
    except EnvironmentFault:
        return None
    found = told.stdout.strip()
    return found if told.returncode == 0 and re.fullmatch(r"[0-9a-f]{40,64}(-dirty)?", found) else None
