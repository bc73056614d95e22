"""The collection's plugins without Ansible around them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

PLUGINS = Path(__file__).parents[1] / "playbooks/collections/ansible_collections/slipway/serving/plugins"


def load(path: str, name: str = "") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name or Path(path).stem, PLUGINS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ended(module: ModuleType, capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    """What a module prints at its end."""
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    out: dict[str, Any] = json.loads(capsys.readouterr().out)
    return out
