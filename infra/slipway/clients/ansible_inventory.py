"""Inventories: Ansible reads them, whatever they are, and says how each machine is reached."""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from slipway.core import process
from slipway.core.errors import CommandError, UsageError
from slipway.core.ownership import require_own_target
from slipway.core.types import GROUPS

EXPECTED = """\
all:
  children:
    control_plane: {hosts: {cp: {ansible_host: 192.0.2.10, ansible_user: root}}}
    worker: {hosts: {worker-1: {ansible_host: 192.0.2.11, ansible_user: root}}}"""

# What Ansible's plugins are asked: with their names of it, and in their order of variables and settings
_OPTIONS = {
    **dict.fromkeys(
        (
            *("host", "port", "remote_user", "private_key_file", "password", "host_key_checking"),
            *("ssh_args", "ssh_common_args", "ssh_extra_args", "ssh_executable"),
        ),
        ("connection", "ssh"),
    ),
    **dict.fromkeys(("become_user", "become_pass", "become_exe"), ("become", "sudo")),
}
# Ansible's own settings that slipway has a better default for than Ansible: setting -> variable
_vault: dict[str, str] = {}  # what Ansible is started with, once somebody has said a vault's password
DEFAULTS = {
    "DEFAULT_TIMEOUT": "ansible_timeout",
    "ANSIBLE_PIPELINING": "ansible_pipelining",
    "INTERPRETER_PYTHON": "ansible_python_interpreter",
}


class VaultClosed(UsageError):
    """The inventory holds what a vault's password opens, and Ansible has none, or another."""


@dataclass(frozen=True)
class Machine:
    """One machine of an inventory, its variables resolved.

    groups: those of slipway's that it is in. connection: ssh, local, or another plugin's name. variables: the
    names of all its variables. configured: the settings of DEFAULTS that are the user's.
    """

    name: str
    groups: tuple[str, ...]
    host: str
    user: str | None = None
    port: int | None = None
    private_key_file: str | None = None
    host_key: str | None = None
    host_key_checking: bool = True
    ssh_args: str = ""
    ssh_common_args: str = ""
    ssh_extra_args: str = ""
    ssh_executable: str = "ssh"
    connection: str = "ssh"
    become: bool = True
    become_method: str = "sudo"
    become_user: str = "root"
    become_exe: str = "sudo"
    password: str | None = field(default=None, repr=False)
    become_password: str | None = field(default=None, repr=False)
    variables: frozenset[str] = frozenset()
    configured: frozenset[str] = frozenset()


def configuration(inventory: Path) -> Path | None:
    """The user's own ansible.cfg: $ANSIBLE_CONFIG, the one beside the inventory, or where Ansible looks."""
    named = os.environ.get("ANSIBLE_CONFIG")
    places = [
        *([Path(named)] if named else []),
        folder_of(inventory) / "ansible.cfg",
        Path("ansible.cfg").absolute(),
        Path.home() / ".ansible.cfg",
        Path("/etc/ansible/ansible.cfg"),
    ]
    return next((place for place in places if place.is_file()), None)


def folder_of(inventory: Path) -> Path:
    """The folder that an inventory's relative paths start from."""
    return (inventory if inventory.is_dir() else inventory.parent).absolute()


def environment(inventory: Path) -> dict[str, str]:
    """What Ansible is started with to read this inventory as its owner does."""
    found = configuration(inventory)
    if found is None:
        return dict(_vault)
    require_own_target("Ansible's configuration", found)  # it may name programs that run here
    return {"ANSIBLE_CONFIG": str(found), **_vault}


def open_vault(password: str) -> None:
    """Let Ansible read vaults with a password that a person said; it stays in this process's memory."""
    folder = tempfile.TemporaryDirectory(prefix="slip-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    program = Path(folder.name) / "vault"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$SLIP_VAULT"\n')
    program.chmod(0o700)
    _vault.update({"ANSIBLE_VAULT_PASSWORD_FILE": str(program), "SLIP_VAULT": password})


@cache
def machines(inventory: Path) -> tuple[Machine, ...]:
    """The machines of an inventory that are in one of slipway's groups, in the inventory's order.

    Ansible itself reads it, so plugins, group_vars, vaults and precedence are Ansible's. Raises UsageError,
    every problem at once, with the form that is expected.
    """
    program = Path(sys.executable).parent / "ansible-playbook"
    asked = {
        "slipway_groups": ":".join(spelling for group in GROUPS for spelling in _spellings(group)),
        "slipway_options": _OPTIONS,
        "slipway_defaults": list(DEFAULTS),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="slip-") as extra:
        extra.write(json.dumps(asked))
        extra.flush()
        try:
            done = process.run(
                [
                    *(program, "--inventory", inventory.absolute(), "--extra-vars", f"@{extra.name}"),
                    Path(__file__).with_name("machines.yml"),
                ],
                env={
                    **environment(inventory),
                    # else a file Ansible cannot read is an empty inventory and a warning
                    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
                    "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                    # what is told may be a password: nothing else may hear of it
                    "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.minimal",
                    "ANSIBLE_LOG_PATH": os.devnull,
                    "ANSIBLE_STRATEGY": "ansible.builtin.linear",
                    "LC_ALL": "C.UTF-8",
                },
                timeout=300,
                check=False,
            )
        except CommandError as error:
            raise _unreadable(inventory, error.output) from error
    said, start = done.stdout, done.stdout.find("{\n")
    if start < 0:
        raise _unreadable(inventory, done.output)
    answer, _ = json.JSONDecoder().raw_decode(said[start:])
    return machines_of(answer, inventory)


def _unreadable(inventory: Path, said: str) -> UsageError:
    if "no vault secrets" in said or "Decryption failed" in said:
        return VaultClosed(
            f"the inventory {inventory} holds what a vault's password opens",
            tail=said,
            action="name a file with it in ANSIBLE_VAULT_PASSWORD_FILE, or in ansible.cfg",
        )
    return UsageError(
        f"Ansible cannot read the inventory {inventory}",
        tail=said,
        action=f"expected a form like\n{EXPECTED}",
    )


def machines_of(answer: Mapping[str, Any], inventory: Path) -> tuple[Machine, ...]:
    """The machines in what machines.yml tells; raises as `machines` does."""
    told: dict[str, Any] = {}
    for play in answer["plays"]:
        for task in play["tasks"]:
            told |= task["hosts"]
    problems: list[str] = []
    found: list[Machine] = []
    for name, result in sorted(told.items(), key=lambda item: _position(item[1])):
        if "position" not in (result.get("msg") or {}):
            problems.append(f"{name}: {_cause(str(result.get('msg')))}")
            continue
        said = result["msg"]
        problems += [f"{name}: {problem}" for problem in _odd(said)]
        if not problems:
            found.append(_machine(name, said))
    groups = {group for machine in found for group in machine.groups}
    if not problems and not found:
        problems.append(f"no host is in one of the groups {', '.join(GROUPS)}")
    elif not problems and "worker" in groups and "control_plane" not in groups:
        problems.append("there are hosts in group worker but none in control_plane")
    if any("vault secrets" in problem or "Decryption failed" in problem for problem in problems):
        raise _unreadable(inventory, "\n".join(problems))
    if problems:
        raise UsageError(
            f"{inventory} cannot be used: {problems[0]}",
            tail="\n".join(problems[1:]),
            action=f"expected a form like\n{EXPECTED}",
        )
    return tuple(found)


def _cause(said: str) -> str:
    """Ansible's words for a variable it cannot make sense of, without where it was asked."""
    return re.sub(r"^Task failed: (Finalization .* value for 'msg': )?", "", " ".join(said.split()))


def _position(result: Mapping[str, Any]) -> int:
    said = result.get("msg")
    return int(said["position"]) if isinstance(said, Mapping) else -1


def _spellings(group: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((group, group.replace("_", "-"))))


# Option of Ansible's -> the name people give it in an inventory
_NAMED = {
    "host": "ansible_host",
    "port": "ansible_port",
    "remote_user": "ansible_user",
    "private_key_file": "ansible_ssh_private_key_file",
    "password": "ansible_password",
    "become_pass": "ansible_become_password",
    "become_user": "ansible_become_user",
    "become_exe": "ansible_become_exe",
    **{name: f"ansible_{name}" for name in ("ssh_args", "ssh_common_args", "ssh_extra_args")},
    "ssh_executable": "ansible_ssh_executable",
    "host_key_checking": "ansible_host_key_checking",
}
_SECRET = ("password", "become_pass")


def _odd(said: Mapping[str, Any]) -> Iterable[str]:
    """What of a machine's options is not what such an option can be."""
    values = {
        **{_NAMED[name]: said["options"][name] for name in _OPTIONS},
        "slipway_host_key": said["host_key"],
    }
    for name, value in values.items():
        if isinstance(value, Mapping | list):
            kind = "list" if isinstance(value, list) else "mapping"
            yield f"{name} is a {kind}, expected a plain value"
        elif value is not None and not str(value).isprintable():
            told = "is not printable" if name in map(_NAMED.get, _SECRET) else f"is {str(value)[:100]!r}"
            yield f"{name} {told}, expected a plain value"
    port = said["options"]["port"]
    plain = port is not None and not isinstance(port, Mapping | list)
    if plain and (isinstance(port, bool) or not (str(port).isdigit() and 0 < int(port) < 65536)):
        yield f"ansible_port is {port!r}, expected 1 to 65535"


def _machine(name: str, said: Mapping[str, Any]) -> Machine:
    options = said["options"]

    def text(option: str) -> str | None:
        value = options[option]
        return None if value is None else str(value)

    return Machine(
        name=name,
        groups=tuple(group for group in GROUPS if set(_spellings(group)) & set(said["groups"])),
        host=text("host") or name,
        user=text("remote_user"),
        port=None if options["port"] is None else int(options["port"]),
        private_key_file=text("private_key_file"),
        host_key=None if said["host_key"] is None else str(said["host_key"]),
        host_key_checking=str(options["host_key_checking"]).lower() not in ("false", "no", "0", "off"),
        ssh_args=text("ssh_args") or "",
        ssh_common_args=text("ssh_common_args") or "",
        ssh_extra_args=text("ssh_extra_args") or "",
        ssh_executable=text("ssh_executable") or "ssh",
        connection=str(said["connection"]).removeprefix("ansible.builtin."),
        become=str(said["become"]).lower() not in ("false", "no", "0", "off"),
        become_method=str(said["become_method"]).removeprefix("ansible.builtin."),
        become_user=text("become_user") or "root",
        become_exe=text("become_exe") or "sudo",
        password=text("password"),
        become_password=text("become_pass"),
        variables=frozenset(said["variables"]),
        configured=frozenset(said["configured"]),
    )
