"""The collection's plugins without Ansible around them, and facts of hosts that are not there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

PLUGINS = Path(__file__).parents[1] / "playbooks/collections/ansible_collections/slipway/serving/plugins"
# Facts of a host where nothing is installed yet
BARE: dict[str, Any] = {
    "default_ipv4": {"address": "192.0.2.7", "prefix": "24", "mtu": 1400},
    "interfaces": [],
    "slipway_host": {
        **{
            "packages": {},
            "snaps": [],
            "groups": {},
            "units": [],
            "behind": [],
            "files": {},
            "docker_daemon": {},
        },
        **{"architecture": "x86_64", "joined": False, "kubelet": ""},
    },
}


# what they share they name as Ansible finds it
sys.path.insert(0, str(PLUGINS.parents[3]))


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{Path(path).stem}", PLUGINS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their module
    spec.loader.exec_module(module)
    return module


def ended(module: ModuleType, capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    """What a module prints at its end."""
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    out: dict[str, Any] = json.loads(capsys.readouterr().out)
    return out


def of(distribution: str, version: str, **host: Any) -> dict[str, Any]:
    """Facts of a host. host: what differs in slipway's own."""
    name = {"distribution": distribution, "distribution_version": version}
    major = {"distribution_major_version": version.partition(".")[0]}
    return {**BARE, **name, **major, "slipway_host": {**BARE["slipway_host"], **host}}
