"""OpenPGP keys, read by what the collection's own modules read them with on hosts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

_MODULE = Path("playbooks/collections/ansible_collections/slipway/serving/plugins/module_utils/openpgp.py")


def reader(project: Path) -> ModuleType:
    """The collection's module, with `problem`, `ends` and `dearmor`. project: the folder with playbooks/."""
    path = project / _MODULE
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
