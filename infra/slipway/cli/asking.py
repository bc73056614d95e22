"""What only a person can say, on a terminal: whether a machine's new key is right, and passwords."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from slipway.cli.session import Session
from slipway.clients import ansible_inventory, openssh, passwords, ssh
from slipway.core.errors import CommandError, SlipwayError
from slipway.core.lock import held
from slipway.core.types import Asked, Host, Hosts
from slipway.hosts import base
from slipway.hosts.existing import need_root
from slipway.hosts.resolving import hosts_of, record_accepted

_TEXTS: dict[Asked, str] = {"login": "SSH password", "become": "sudo password"}


def there() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def meet(session: Session, *, accept: bool) -> None:
    """Look at an inventory's machines before the chain does: keys nobody knows, passwords nobody has given.

    accept: take keys that are shown for the first time, after telling their fingerprints, without a question.
    """
    inventory = session.settings.hosts.inventory
    if inventory is None or not (accept or there()):
        return
    if there():
        _open_vault(inventory)
    hosts = hosts_of(inventory, session.state.accepted_keys)
    new = _shown_first(hosts)
    if new:
        _say("These machines show a key that nobody has recorded yet:")
        for host, key in new:
            _say(f"  {host.name:<12} {openssh.known_name(host)}  {openssh.fingerprint(key)}")
        _say("On each machine `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints what is right.")
        if not accept and not typer.confirm("Are these the machines' own?", err=True):
            return
        with held(session.state, "hosts up"):
            record_accepted(session.state, [replace(host, host_key=key) for host, key in new])
        hosts = hosts_of(inventory, session.state.accepted_keys)
    if there():
        for host in hosts:
            _ask_what_it_wants(host)


def ask_again(hosts: Hosts | None) -> None:
    """Ask for what the machines wanted when they were met, if there is somebody to ask."""
    if hosts is None or not there():
        return
    for inventory in {host.passwords for host in hosts.hosts if host.passwords is not None}:
        _open_vault(inventory)
    for host in hosts.hosts:
        for kind in host.asks:
            _ask(kind, host)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _shown_first(hosts: Sequence[Host]) -> list[tuple[Host, str]]:
    """The hosts whose key nobody has recorded, with the key that they show."""

    def look(host: Host) -> tuple[Host, str] | None:
        if host.host_key or host.connection == "local":
            return None
        try:
            with ssh.connect(host):
                return None
        except ssh.HostKeyUnknown:
            return host, ssh.shown_key(host)
        except SlipwayError:  # the chain tells it
            return None

    return [found for found in base.on_each(hosts, look) if found is not None]


def _ask_what_it_wants(host: Host) -> None:
    """Try a machine with what is known, and ask for what it lacks, once for all machines."""
    for kind in ("key", "login", "become"):
        asked: Asked = kind
        try:
            need_root(replace(host, asks=passwords.told()))
        except SlipwayError as error:
            if asked == wanted(host, error):
                _ask(asked, host)
        else:
            return


def wanted(host: Host, error: SlipwayError) -> Asked | None:
    """What a person could say that would let us in, by the way the machine refused."""
    if isinstance(error, ssh.LoginRefused):
        if any(passwords.is_locked(key) for key in openssh.identities(host)):
            return "key"
        return "login" if "password" in error.what or "keyboard-interactive" in error.what else None
    cause = error.__cause__
    lacks = isinstance(cause, CommandError) and "password" in cause.output
    return "become" if lacks else None


def _ask(kind: Asked, host: Host) -> None:
    if kind == "key":
        for key in openssh.identities(host):
            if passwords.is_locked(key):
                passwords.unlock(key, getpass.getpass(f"Passphrase of {key}: "))
    elif kind not in passwords.told():
        question = f"{_TEXTS[kind]} of {host.user}@{host.name}, and of others that ask: "
        passwords.tell(kind, getpass.getpass(question))


def _open_vault(inventory: Path) -> None:
    """Ask for the vault's password where Ansible has none."""
    try:
        ansible_inventory.machines(inventory)
    except ansible_inventory.VaultClosed:
        ansible_inventory.open_vault(getpass.getpass("Vault password: "))
