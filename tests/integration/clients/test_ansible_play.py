"""Real plays on this machine: what they change, what they say when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway.clients import ansible_play
from slipway.core.errors import ProvisionError


def local(tmp_path: Path, tasks: str) -> tuple[Path, Path]:
    """A playbook on this machine without SSH, and its inventory."""
    playbook, inventory = tmp_path / "book.yml", tmp_path / "inventory.yml"
    playbook.write_text(f"- name: Here\n  hosts: all\n  gather_facts: false\n  tasks:\n{tasks}")
    inventory.write_text(
        "all:\n  hosts:\n    here: {ansible_connection: local, ansible_python_interpreter: /usr/bin/python3}\n"
    )
    return playbook, inventory


def test_a_real_play(tmp_path: Path) -> None:
    playbook, inventory = local(
        tmp_path,
        f"    - name: Write\n      ansible.builtin.copy: {{content: x, dest: {tmp_path}/new, mode: '0644'}}\n",
    )
    dry = ansible_play.play(playbook, inventory, tmp_path / "dry.log", check=True)
    assert not (tmp_path / "new").exists()
    assert [(change.host, change.task, change.subject) for change in dry.changes] == [
        ("here", "Write", f"{tmp_path}/new")
    ]
    assert ansible_play.play(playbook, inventory, tmp_path / "1.log").changed == 1
    assert ansible_play.play(playbook, inventory, tmp_path / "2.log").changed == 0
    assert "PLAY RECAP" in (tmp_path / "2.log").read_text()


def test_a_failing_play_and_its_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary-1234")
    look = f"{{{{ lookup('ansible.builtin.file', '{secret}') }}}}"
    playbook, inventory = local(
        tmp_path,
        f"    - name: Keep\n      ansible.builtin.command: echo {look}\n      no_log: true\n"
        "    - name: Break\n      ansible.builtin.command: sh -c 'echo the true cause >&2; exit 3'\n",
    )
    log = tmp_path / "log"
    with pytest.raises(ProvisionError) as caught:
        ansible_play.play(playbook, inventory, log)
    assert caught.value.where == "here" and "task `Break`" in caught.value.what
    assert "the true cause" in caught.value.tail
    assert "the true cause" in log.read_text() and "canary-1234" not in log.read_text()


def test_a_playbook_that_cannot_start_says_why(tmp_path: Path) -> None:
    playbook, inventory = local(tmp_path, "    - name: Odd\n      no.such.module:\n")
    with pytest.raises(ProvisionError) as caught:
        ansible_play.play(playbook, inventory, tmp_path / "log")
    assert "no.such.module" in caught.value.tail
