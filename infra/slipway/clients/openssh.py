"""OpenSSH's words for a host, and what it makes of them together with the user's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slipway.clients import known_hosts
from slipway.core import process
from slipway.core.errors import CommandError, UsageError
from slipway.core.types import Host


def known_name(host: Host) -> str:
    """The host as known_hosts names it."""
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


def fingerprint(host_key: str) -> str:
    """The SHA256 fingerprint of a public key line, as ssh prints it; the line itself if it is not a key."""
    key = known_hosts.public_key(host_key)
    return f"{key.get_name()} {key.fingerprint}" if key is not None else host_key


def accepting(known_hosts_file: Path) -> list[str]:
    """Words that let OpenSSH accept the keys of this file alone, not of the system's file nor of the DNS."""
    return [
        *("-o", "StrictHostKeyChecking=yes"),
        *("-o", f"UserKnownHostsFile={quoted(known_hosts_file)}"),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "VerifyHostKeyDNS=no"),
    ]


def pins(host: Host, known_hosts_file: Path) -> list[str]:
    """Words that let OpenSSH accept the host's pinned key alone; none for a host that has none pinned.

    OpenSSH keeps to the first word it is given, so they come before those of an inventory.
    """
    if not host.host_key:
        return []
    # by the name in the file, whatever the user's configuration calls it
    return [*accepting(known_hosts_file), "-o", f"HostKeyAlias={known_name(host)}"]


def words(host: Host, known_hosts_file: Path) -> list[str]:
    """OpenSSH's words for a host, its name the last. A key that is pinned is in that file."""
    out = [*pins(host, known_hosts_file), *host.options, "-p", str(host.port), "-l", host.user]
    if host.identity is not None:
        out += ["-o", f"IdentityFile={quoted(host.identity)}", "-o", "IdentitiesOnly=yes"]
    return [*out, host.destination]


def configuration(given: Sequence[str], where: str) -> dict[str, list[str]]:
    """What OpenSSH would do with these words, its name for each option in lower case to its values.

    Raises UsageError when it takes the words or its configuration for wrong.
    """
    try:
        said = process.run(["ssh", "-G", *given], timeout=30, where=where).stdout
    except CommandError as error:
        raise UsageError(
            "OpenSSH does not understand how this machine is to be reached",
            where=where,
            tail=error.output,
            action="correct ansible_ssh_args and the like in the inventory, or ~/.ssh/config",
        ) from error
    out: dict[str, list[str]] = {}
    for line in said.splitlines():
        option, _, value = line.partition(" ")
        out.setdefault(option, []).append(value)
    return out


def identities(host: Host) -> list[Path]:
    """The files of private keys that OpenSSH tries for the host."""
    found = configuration(words(host, Path("none")), host.name).get("identityfile", [])
    files = [Path(file.replace("%%", "%")).expanduser() for file in found]
    return [file for file in dict.fromkeys(files) if file.is_file()]


def checks_keys(host: Host) -> bool:
    """Whether the host's key is checked at all: an inventory or OpenSSH's configuration can ask for none."""
    if host.host_key or host.connection == "local":
        return True
    return configuration(words(host, Path("none")), host.name)["stricthostkeychecking"] != ["false"]


def known_hosts_files(host: Host) -> list[Path]:
    """The files in which OpenSSH looks for the host's keys."""
    found = configuration(words(host, Path("none")), host.name)
    return [
        Path(file).expanduser()
        for option in ("userknownhostsfile", "globalknownhostsfile")
        for value in found.get(option, [])
        for file in value.split()
    ]


def shell(host: Host, known_hosts_file: Path) -> list[str]:
    """The command line of a shell on the host; what is added to it is run there."""
    if host.connection == "local":
        return ["sh", "-c", 'if [ "$#" -gt 0 ]; then exec sh -c "$*"; fi; exec "${SHELL:-sh}"', "sh"]
    return ["ssh", *words(host, known_hosts_file)]


def quoted(path: Path) -> str:
    """A path in an option of OpenSSH's, which splits at blanks, takes quotes off and replaces %."""
    text = str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def known_hosts_line(host: Host) -> str:
    """The host's pinned key as a line of known_hosts."""
    return f"{known_name(host)} {host.host_key}"
