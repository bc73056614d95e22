"""Real plays on this machine: what they change, what they say when they fail."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path

import pytest
from slipway.clients import ansible_play
from slipway.core import process
from slipway.core.errors import ProvisionError
from slipway.core.interrupt import Interrupt, in_force


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


def test_a_play_in_a_thread_ends_when_nobody_wants_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ansible's workers leave the process group that ansible-runner kills; so does what they run."""
    playbook, inventory = local(
        tmp_path,
        "    - name: Stay\n      ansible.builtin.command: sh -c "
        f"'echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 300'\n",
    )
    ended: list[BaseException] = []

    def act() -> None:
        try:
            ansible_play.play(playbook, inventory, tmp_path / "log")
        except BaseException as error:  # noqa: BLE001  # looked at below
            ended.append(error)

    wish = Interrupt()
    with in_force(wish):
        thread = threading.Thread(target=act)
        thread.start()
        while not (tmp_path / "pid").exists():
            thread.join(0.05)
            assert thread.is_alive(), ended
        wish.ask()
        thread.join(60)
    assert [type(error) for error in ended] == [KeyboardInterrupt]
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"  # nobody may be there to reap it
    assert [line for line in commands() if str(tmp_path) in line] == []


def commands() -> list[str]:
    """The command line of every process of this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


# What ptyprocess does between fork and exec, slowly. A child's gRPC that has threads finds their files gone.
SPEAKS_AND_FORKS = """
import os, time
import slipway
import grpc

server = grpc.server(None)
channel = grpc.insecure_channel(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
server.start()
try:
    channel.unary_unary("/any/Method")(b"", timeout=10)
except grpc.RpcError:
    pass
time.sleep(0.5)
ended = []
for _ in range(12):
    child = os.fork()
    if not child:
        os.closerange(3, 4096)
        time.sleep(0.2)
        os._exit(0)
    ended.append(os.waitpid(child, 0)[1])
print(ended, flush=True)
os._exit(0)
"""


def test_a_play_is_forked_off_a_process_that_speaks_grpc() -> None:
    done = process.run([sys.executable, "-c", SPEAKS_AND_FORKS], timeout=60)
    assert done.stdout.strip() == str([0] * 12), done.stderr
