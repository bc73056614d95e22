"""OpenPGP keys, read by what the collection's own modules read them with on hosts."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from slipway.core.project import COLLECTION

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Key:
    """What a key file is worth. problem: why it may not be trusted; empty when it may, and then packets are
    the key's own, without armor.
    """

    ends: datetime
    problem: str
    packets: bytes = b""


def read(project: Path, content: bytes, fingerprint: str) -> Key:
    """A key file that must hold the key of this fingerprint alone. project: the folder with playbooks/."""
    module = _module(project)
    problem = str(module.problem(content, fingerprint))
    if problem:
        return Key(NEVER, problem)
    packets = bytes(module.dearmor(content))
    ends = float(module.ends(packets))
    return Key(NEVER if ends == float("inf") else datetime.fromtimestamp(ends, UTC), "", packets)


def _module(project: Path) -> ModuleType:
    path = project / COLLECTION / "plugins/module_utils/openpgp.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
