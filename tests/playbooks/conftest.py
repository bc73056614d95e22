"""What tests of the playbooks share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway.core import process

from tests.plugins import PLUGINS


@pytest.fixture(autouse=True)
def backups(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where modules that are run on this machine keep what they replace."""
    folder = tmp_path_factory.mktemp("kept") / "backups"
    monkeypatch.setattr("ansible_collections.slipway.serving.plugins.module_utils.placing.BACKUPS", folder)
    return folder


@pytest.fixture(scope="session")
def ansible() -> str:
    """ansible-playbook of this environment, which need not be on PATH."""
    return str(Path(sys.executable).with_name("ansible-playbook"))


@pytest.fixture
def decided(ansible: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What variables of a role come to where the facts are these; the role's preflight has passed."""
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(PLUGINS.parents[3]))

    def decide(role: str, names: list[str], facts: dict[str, Any], **variables: Any) -> dict[str, Any]:
        asked = ", ".join(f"'{name}': {name}" for name in names)
        include = {"name": f"slipway.serving.{role}", "tasks_from": "preflight", "public": True}
        written = {"content": f"{{{{ {{{asked}}} | to_json }}}}", "dest": str(tmp_path / "decided")}
        book = tmp_path / "book.yml"
        tasks = [
            {"ansible.builtin.set_fact": {**facts, "cacheable": True}},
            {"ansible.builtin.include_role": include},
            {"ansible.builtin.copy": written},
        ]
        here = {"ansible_python_interpreter": "{{ ansible_playbook_python }}", **variables}
        play = {"hosts": "localhost", "gather_facts": False, "vars": here, "tasks": tasks}
        book.write_text(json.dumps([play]))
        process.run([ansible, "-i", "localhost,", "-c", "local", book], cwd=tmp_path, timeout=60)
        out: dict[str, Any] = json.loads((tmp_path / "decided").read_text())
        return out

    return decide
