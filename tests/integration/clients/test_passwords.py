"""Passwords and locked keys: where they come from, who is told, and where they never are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.clients import ansible_inventory, passwords, ssh
from slipway.core.errors import CommandError, UsageError
from slipway.core.types import Host, Hosts, dump
from slipway.hosts import base
from slipway.hosts.resolving import hosts_of

from tests.integration.clients.test_ssh import KEYS, Machine
from tests.standins.ssh_server import USER, serving

PASSWORD = "two words' $(id) \\ %h"
# What sudo does of its -k, -S, -p, -- and -n
SUDO = """\
#!/bin/sh
asks=$(cat {folder}/asks)
[ "$1" = -k ] && shift
case "$1" in
-n) [ "$asks" = no ] || {{ echo 'sudo: a password is required' >&2; exit 1; }}; shift 2;;
-S) shift 4; [ "$asks" = no ] || {{ IFS= read -r said; [ "$said" = "$(cat {folder}/password)" ] || exit 1; }};;
esac
exec "$@"
"""


@contextmanager
def machine(folder: Path, password: str | None = None) -> Iterator[Machine]:
    base.key_pair(folder, "id")
    made = Machine(folder / "id", password, f"{folder}:{os.environ['PATH']}")
    try:
        yield made
    finally:
        made.listener.close()
        for transport in made.transports:
            transport.close()


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a vault's password."""
    file = tmp_path / "vault-password"
    file.write_text("opens it\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(file))
    return file


def sealed(value: str, vault: Path) -> str:
    """A value as `ansible-vault encrypt_string` gives it for YAML, in an inventory's column."""
    argv = [str(Path(sys.executable).with_name("ansible-vault")), "encrypt_string", "--stdin-name", "value"]
    environment = {**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(vault)}
    done = subprocess.run(argv, env=environment, input=value, capture_output=True, text=True, check=True)
    return done.stdout.partition("value: ")[2].replace("\n", "\n      ")


def test_a_password_of_a_vault_lets_in_and_is_nowhere_else(tmp_path: Path, vault: Path) -> None:
    with machine(tmp_path, PASSWORD) as made:
        inventory = tmp_path / "inventory.yml"
        port = made.host.port
        inventory.write_text(
            "control_plane:\n  hosts:\n    cp:\n      ansible_host: 127.0.0.1\n"
            f"      ansible_port: {port}\n      ansible_user: root\n      slipway_host_key: {KEYS.public}\n"
            "      ansible_ssh_common_args: -F none\n"
            f"      ansible_password: {sealed(PASSWORD, vault)}\n"
        )
        (host,) = hosts_of(inventory)
        with ssh.connect(host) as connection:
            assert connection.run(["echo", "in"]).stdout == "in\n"
            seen = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not [line for line in seen if b"two words'" in line]
        assert "words'" not in repr(host) and b"words'" not in dump(Hosts("ssh", (host,), inventory))
        assert "words'" not in repr(ansible_inventory.machines(inventory))
        wrong = inventory.with_name("wrong.yml")
        wrong.write_text(
            inventory.read_text().partition("      ansible_password")[0] + "      ansible_password: no\n"
        )
        with pytest.raises(ssh.LoginRefused), ssh.connect(hosts_of(wrong)[0]):
            pass


def test_a_vault_that_nobody_opens_is_told(
    tmp_path: Path, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(f"control_plane:\n  hosts:\n    cp:\n      ansible_password: {sealed('x', vault)}\n")
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    with pytest.raises(ansible_inventory.VaultClosed) as refused:
        hosts_of(inventory)
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in refused.value.action
    monkeypatch.setattr(ansible_inventory, "_vault", {})
    ansible_inventory.open_vault("opens it")
    assert ansible_inventory.machines(inventory)[0].password == "x"


@pytest.mark.parametrize("asks", ["yes", "no"])
def test_sudo_is_told_its_password_and_the_program_gets_its_input_whole(
    tmp_path: Path, asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sudo").write_text(SUDO.format(folder=tmp_path))
    (tmp_path / "sudo").chmod(0o755)
    (tmp_path / "asks").write_text(asks)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "file").write_bytes(content := os.urandom(300_000) + b"\n\n")
    monkeypatch.setattr(passwords, "_told", {})
    with machine(tmp_path) as made:
        host = replace(made.host, user="ada", asks=("become",))
        if asks == "yes":
            with ssh.connect(host) as connection, pytest.raises(CommandError, match="exit code 1"):
                connection.run(["true"])
        passwords.tell("become", PASSWORD)
        with ssh.connect(host) as connection:
            assert connection.run(["cat"], input="one\n\ntwo").stdout == "one\n\ntwo"
            assert connection.run(["cat"]).stdout == ""
            assert connection.run(["wc", "-c"], input=content).stdout.split() == [str(len(content))]
            assert connection.stream_in(["wc", "-c"], tmp_path / "file").stdout.split() == [str(len(content))]
            assert connection.run(["sh", "-c", "exit 7"], check=False).returncode == 7
        passwords.tell("become", "another")
        if asks == "yes":
            with ssh.connect(host) as connection, pytest.raises(CommandError):
                connection.run(["cat"], input="one")
        assert not [words for words in made.told if "two words'" in words]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("ada@192.0.2.1's password: ", True),
        ("(ada@192.0.2.1) Password: ", True),
        ("ada@192.0.2.10's password: ", False),
        ("ada@bastion's password: ", False),
        ("(ada@192.0.2.1) Verification code: ", False),
        ("Enter passphrase for key '/home/ada/.ssh/id': ", False),
    ],
)
def test_only_the_machine_itself_is_told(tmp_path: Path, prompt: str, told: bool) -> None:
    environment = passwords.answering(tmp_path, "ada@192.0.2.1", PASSWORD)
    done = subprocess.run(
        [environment["SSH_ASKPASS"], prompt],
        check=False,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == ((0, f"{PASSWORD}\n") if told else (1, ""))


def test_a_locked_key_opens_with_its_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSWORD, "-f", key], check=True)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(passwords, "_told", {})
    monkeypatch.setattr(passwords, "_unlocked", set())
    passwords._agent.cache_clear()  # another agent than another test's
    base.key_pair(tmp_path, "open")
    assert passwords.is_locked(key) and not passwords.is_locked(tmp_path / "open")
    with serving(tmp_path / "server", f"AuthorizedKeysFile {key}.pub") as server:
        host = Host("cp", "127.0.0.1", USER, server.host_key, (), server.port, key)
        with pytest.raises(ssh.LoginRefused), ssh.connect(host):
            pass
        with pytest.raises(UsageError, match="stays locked"):
            passwords.unlock(key, "another")
        passwords.unlock(key, PASSWORD)
        with ssh.connect(host) as connection:
            assert connection.run(["echo", "in"], become=False).stdout == "in\n"
    assert not passwords.is_locked(key)
