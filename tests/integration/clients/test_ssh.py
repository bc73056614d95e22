"""A machine on 127.0.0.1 that runs what it is told: commands, streams, and what goes wrong with them."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest
from slipway.clients import openssh, ssh
from slipway.core.errors import CommandError
from slipway.core.interrupt import Cancelled, Interrupt, in_force
from slipway.core.types import Host
from slipway.hosts import base
from slipway.hosts.base import ed25519

KEYS = ed25519()


class Machine(paramiko.ServerInterface):
    """A machine on 127.0.0.1 that lets everyone in and runs what it is told in a shell of this one.

    password: what it wants to hear instead of any key. path: where its programs are.
    """

    def __init__(self, identity: Path, password: str | None = None, path: str | None = None) -> None:
        self.identity = identity
        self.password = password
        self.environment = {**os.environ, **({"PATH": path} if path else {})}
        self.told: list[str] = []
        self.lets_in = True
        self.transports: list[paramiko.Transport] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def host(self) -> Host:
        port = self.listener.getsockname()[1]
        return Host("cp", "127.0.0.1", "root", KEYS.public, (), port=port, identity=self.identity)

    def _serve(self) -> None:
        key = paramiko.Ed25519Key(file_obj=io.StringIO(KEYS.private.decode()))
        while True:
            try:
                taken, _ = self.listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(taken)
            transport.add_server_key(key)
            transport.start_server(server=self, event=threading.Event())
            self.transports.append(transport)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey" if self.password is None else "password"

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL if password == self.password else paramiko.common.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: Any) -> int:
        return paramiko.common.AUTH_SUCCESSFUL if self.lets_in else paramiko.common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        self.told.append(shlex.join(shlex.split(command.decode())[5:]))  # without what tells its end
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: Any, command: str) -> None:
        with channel.makefile("rb") as stream:
            stdin = stream.read()
        if self.told[-1] == "cut":
            self.transports[-1].close()
            return
        done = subprocess.run(
            ["sh", "-c", command], input=stdin, capture_output=True, check=False, env=self.environment
        )
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    base.key_pair(tmp_path, "id")
    made = Machine(tmp_path / "id")
    yield made
    made.listener.close()
    for transport in made.transports:
        transport.close()


def test_a_command_gets_its_input_and_gives_its_output(machine: Machine, tmp_path: Path) -> None:
    lines: list[str] = []
    with ssh.connect(machine.host) as connection:
        done = connection.run(["sh", "-c", "cat; echo two words >&2"], input="one", on_line=lines.append)
        assert (done.stdout, done.stderr, done.returncode) == ("one", "two words\n", 0)
        assert sorted(lines) == ["one", "two words"]
        assert connection.run(["wc", "-c"]).stdout.strip() == "0"
        with pytest.raises(CommandError) as failed:
            connection.run(["sh", "-c", "echo why >&2; exit 3"])
        assert (failed.value.returncode, failed.value.where, failed.value.tail) == (3, "cp", "why")
        assert connection.run(["false"], check=False).returncode == 1
        assert "no end after 0.2 s" in connection.run(["sleep", "9"], timeout=0.2, check=False).output
    assert machine.told[0] == "sh -c 'cat; echo two words >&2'"


def test_other_users_become_root_unless_told_not_to(machine: Machine, tmp_path: Path) -> None:
    host = machine.host
    user = replace(host, user="ada")
    with ssh.connect(user) as connection:
        connection.run(["true"], check=False)
        connection.run(["true"], become=False, timeout=5)
    assert machine.told == ["sudo -n -- true", "timeout --kill-after=5 5 true"]


def test_a_file_streams_in_whole(machine: Machine, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "file").write_bytes(content)
    with ssh.connect(machine.host) as connection:
        said = connection.stream_in(["sha256sum"], tmp_path / "file").stdout
        with pytest.raises(FileNotFoundError):  # an error of ours, not the machine's
            connection.stream_in(["cat"], tmp_path / "none")
    assert said.split()[0] == hashlib.sha256(content).hexdigest()


def test_a_connection_that_breaks_says_what_ran_and_what_to_do(machine: Machine, tmp_path: Path) -> None:
    with ssh.connect(machine.host) as connection:
        with pytest.raises(ssh.Unreachable, match="broke while `cut` ran") as failed:
            connection.run(["cut"])
        assert failed.value.where == "cp"
        assert "same command again" in failed.value.action
        with pytest.raises(ssh.Unreachable):
            connection.run(["true"])


def test_a_command_nobody_waits_for_any_more_is_let_go_and_the_next_one_is_run(
    machine: Machine, tmp_path: Path
) -> None:
    said: list[object] = []

    def act() -> None:
        with ssh.connect(machine.host) as connection:
            try:
                connection.run(["sh", "-c", f"touch {tmp_path}/begun; exec sleep 20"])
            except Cancelled:
                said.append(connection.run(["echo", "cleared"]).stdout)

    wish = Interrupt()
    with in_force(wish):
        thread = threading.Thread(target=act)
        thread.start()
        while not (tmp_path / "begun").exists():
            thread.join(0.01)
        wish.ask()
        thread.join(15)
    assert said == ["cleared\n"]


def test_another_key_another_kind_and_a_refused_login(machine: Machine, tmp_path: Path) -> None:
    host = machine.host
    rsa = paramiko.RSAKey.generate(2048)
    for key in (ed25519().public, f"{rsa.get_name()} {rsa.get_base64()}"):
        pinned = Host(host.name, host.address, host.user, key, (), port=host.port)
        with (
            pytest.raises(ssh.HostKeyRejected, match="another host key") as refused,
            ssh.connect(pinned),
        ):
            pass
        assert key.split()[0] in refused.value.tail.splitlines()[0]
        assert "ssh-ed25519 SHA256:" in refused.value.tail.splitlines()[1]
    machine.lets_in = False
    with pytest.raises(ssh.LoginRefused, match="refuses the login"), ssh.connect(host):
        pass
    assert machine.told == []


@pytest.mark.parametrize("folder", ["plain", "with blanks", "a%b %h", 'quo"te', "back\\slash", "it's"])
def test_openssh_finds_the_files_in_folders_of_any_name(tmp_path: Path, folder: str) -> None:
    """OpenSSH itself is asked what it made of the words; its configuration file is not this user's."""
    known, identity = tmp_path / folder / "known_hosts", tmp_path / folder / "id"
    host = Host("cp", "192.0.2.1", "root", KEYS.public, (), port=2222, identity=identity)
    ssh_, *words = openssh.shell(host, known)
    argv = [ssh_, "-G", "-F", "/dev/null", *words]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    understood = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    assert understood["userknownhostsfile"] == str(known)
    assert understood["identityfile"].replace("%%", "%") == str(identity)  # a %% becomes one when it is read
    assert understood["globalknownhostsfile"] == "/dev/null"
    assert understood["verifyhostkeydns"] == "false"
    assert understood["stricthostkeychecking"] == "true"
    assert understood["identitiesonly"] == "yes"
    assert (understood["user"], understood["hostname"], understood["port"]) == ("root", "192.0.2.1", "2222")


def at(port: int) -> Host:
    return Host("cp", "127.0.0.1", "root", KEYS.public, (), port=port)


def test_a_closed_port_is_unreachable_and_says_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        pytest.raises(ssh.Unreachable, match=f"127.0.0.1:{port}") as failed,
        ssh.connect(at(port), timeout=2),
    ):
        pass
    assert failed.value.where == "cp"
    assert failed.value.exit_code == 3


@pytest.mark.parametrize(
    "said",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        (b"",),
        (b"SSH-2.0-stand-in\r\n", b"\0\0\0\x0c" + b"x" * 500),
        (b"SSH-2.0-stand-in\r\n", b"\0\0\0\x0c\xff\x14" + b"\xff" * 500),
        (b"SSH-2.0-stand-in\r\n", b"\xff" * 500),
    ],
)
def test_something_that_is_not_ssh_is_unreachable(said: tuple[bytes, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            taken, _ = listener.accept()
            for part in said:
                taken.sendall(part)
                taken.recv(4096)
            taken.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ssh.Unreachable), ssh.connect(at(listener.getsockname()[1]), timeout=3):
            pass
        thread.join()
