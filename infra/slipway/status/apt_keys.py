"""The keys of third parties' apt sources on a lab's hosts: are they the pinned ones, when do they end."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import yaml

COLLECTION = Path("playbooks/collections/ansible_collections/slipway/serving")
# Name of the source on hosts, to the role that pins its key. Each has the pin in its fixed variables.
ROLES = {"docker": "docker", "kubernetes": "kubernetes_node"}
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class AptKey:
    """What a key file on a host is worth. problem: why it may not be trusted; empty when it may."""

    ends: datetime
    problem: str


def pins(project: Path) -> dict[str, str]:
    """Source to the fingerprint its key must have, as the roles pin it: never what a host says it is."""
    out = {}
    for source, role in ROLES.items():
        fixed = yaml.safe_load((project / COLLECTION / "roles" / role / "vars/main.yml").read_text())
        out[source] = str(fixed[f"_{role}_key_fingerprint"])
    return out


def read(project: Path, source: str, content: bytes) -> AptKey:
    """A key file of that source. Raises KeyError for a source no role pins the key of."""
    module = _module(project)
    problem = str(module.problem(content, pins(project)[source]))
    if problem:
        return AptKey(NEVER, problem)
    ends = float(module.ends(module.dearmor(content)))
    return AptKey(NEVER if ends == float("inf") else datetime.fromtimestamp(ends, UTC), "")


def _module(project: Path) -> ModuleType:
    """What the module that puts the keys down reads OpenPGP with."""
    path = project / COLLECTION / "plugins/module_utils/openpgp.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
