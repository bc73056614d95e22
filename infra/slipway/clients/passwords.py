"""Passwords and keys that machines want: in this process's memory alone, from an inventory or a person."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from slipway.clients import ansible_inventory
from slipway.core import process
from slipway.core.errors import CommandError, UsageError
from slipway.core.types import Asked, Host

_HOUR = 3600
# Variable of Ansible -> what a person told for every machine that asks
VARIABLES: dict[str, Asked] = {"ansible_password": "login", "ansible_become_password": "become"}
_told: dict[Asked, str] = {}
_unlocked: set[Path] = set()


@dataclass(frozen=True)
class Passwords:
    """What a machine wants to be told: login for SSH, become for sudo; None where it wants nothing."""

    login: str | None = None
    become: str | None = None


def of(host: Host) -> Passwords:
    """The passwords of a host. Raises UsageError when its inventory cannot be read any more."""
    login, become = (_told.get(kind) if kind in host.asks else None for kind in ("login", "become"))
    if host.passwords is None:
        return Passwords(login, become)
    found = (each for each in ansible_inventory.machines(host.passwords) if each.name == host.name)
    machine = next(found, None)
    return Passwords(machine.password or login, machine.become_password or become) if machine else Passwords()


def tell(kind: Asked, password: str) -> None:
    """Remember what a person said, for every machine that asks for it."""
    _told[kind] = password


def told() -> tuple[Asked, ...]:
    """What a person has said in this process."""
    return tuple(sorted(_told))


def environment() -> dict[str, str]:
    """What of it Ansible is started with; `reference` is how an inventory names it."""
    return {_variable(kind): password for kind, password in _told.items() if kind != "key"}


def reference(kind: Asked) -> str:
    """A template of Ansible's for what a person told."""
    return "{{ lookup('ansible.builtin.env', '%s') }}" % _variable(kind)  # noqa: UP031  # braces are the template's


def _variable(kind: Asked) -> str:
    return f"SLIP_TOLD_{kind.upper()}"


_ANSWER = """\
#!/bin/sh
# Who may be told: only the machine that it is for, not one on the way there.
case "$1" in
"$SLIP_ANSWER_TO's password: "* | "($SLIP_ANSWER_TO) "*[Pp]assword* | *"passphrase for $SLIP_ANSWER_TO: "*) ;;
*) exit 1 ;;
esac
printf '%s\\n' "$SLIP_ANSWER"
"""


def answering(folder: Path, asker: str, answer: str) -> dict[str, str]:
    """The environment in which programs of OpenSSH are told a password, never in an argument.

    folder: private, it holds the program that tells. asker: user@host, or the file of a key.
    """
    program = folder / "answer"
    program.write_text(_ANSWER)
    program.chmod(0o700)
    return {
        "SSH_ASKPASS": str(program),
        "SSH_ASKPASS_REQUIRE": "force",
        "DISPLAY": os.environ.get("DISPLAY", ":0"),  # what older ones ask for
        "SLIP_ANSWER_TO": asker,
        "SLIP_ANSWER": answer,
    }


def is_locked(key: Path) -> bool:
    """Whether a private key cannot be used without a passphrase that nobody has said yet."""
    if key in _unlocked:
        return False
    with _private() as folder:
        argv = ["ssh-keygen", "-y", "-f", str(key)]
        done = process.run(argv, env=answering(folder, str(key), ""), timeout=30, check=False)
    return done.returncode != 0 and "passphrase" in done.stderr


def unlock(key: Path, passphrase: str) -> None:
    """Give a private key to the agent: the user's for an hour, else one that ends with this process.

    Raises UsageError when it is not the key's passphrase.
    """
    own = _agent()
    life = [] if own else ["-t", str(_HOUR)]
    with _private() as folder:
        try:
            process.run(
                ["ssh-add", "-q", *life, str(key)], env=answering(folder, str(key), passphrase), timeout=30
            )
        except CommandError as error:
            raise UsageError(f"the key {key} stays locked", tail=error.output) from error
    _told["key"] = ""  # the agent has it, nobody else need know
    _unlocked.add(key)


@cache
def _agent() -> bool:
    """Whether an agent was started, as there was none; it ends with this process."""
    socket = os.environ.get("SSH_AUTH_SOCK")
    if socket and Path(socket).exists():
        return False
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    way = stack.enter_context(_private()) / "agent"
    argv = ["ssh-agent", "-D", "-a", str(way)]
    stack.enter_context(process.running(argv, ready=lambda line: "SSH_AUTH_SOCK" in line, timeout=30))
    os.environ["SSH_AUTH_SOCK"] = str(way)
    return True


@contextmanager
def _private() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slip-", ignore_cleanup_errors=True) as made:
        yield Path(made)
