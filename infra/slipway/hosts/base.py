"""The contract of a host backend, and the half that every backend shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from slipway.clients import openssh, ssh
from slipway.core.context import Context
from slipway.core.errors import CommandError, HostError, SlipwayError
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.state import State, write_atomically
from slipway.core.types import Host, Hosts, Outcome

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class HostStatus:
    """One line of `slipway status`: state is "running", "stopped", "unreachable" or "absent"."""

    name: str
    address: str
    state: str
    detail: str = ""


class Backend(Protocol):
    """Where machines come from.

    plan: one line per thing `up` would change on this machine; changes nothing.
    up: hosts that answer SSH with a pinned key and give root; a second call changes nothing.
    On failure it leaves what exists recorded, so that `up` goes on from there and `down` removes it.
    down: take away everything `up` made and return what was removed, one line each; hosts that the
    backend did not make are left alone. Safe to call at any time, twice, and after a kill.
    status: what is there now. collect: each host's logs, as evidence that can be read.
    """

    name: str

    def plan(self, ctx: Context, settings: Settings) -> list[str]: ...
    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]: ...
    def down(self, ctx: Context) -> list[str]: ...
    def status(self, ctx: Context) -> tuple[HostStatus, ...]: ...
    def collect(self, ctx: Context, hosts: Hosts | None) -> Sequence[Reading]: ...


@runtime_checkable
class Bakes(Protocol):
    """A backend whose hosts start from a root that stages have worked on."""

    def bake(self, ctx: Context, settings: Settings) -> tuple[Path, int]: ...


@dataclass(frozen=True)
class KeyPair:
    """A private key in OpenSSH's format and its public line "ssh-ed25519 AAAA..."."""

    private: bytes
    public: str


def ed25519() -> KeyPair:
    """A new key pair, without a passphrase."""
    key = Ed25519PrivateKey.generate()
    return KeyPair(
        private=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
        public=key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode(),
    )


def key_pair(folder: Path, name: str) -> KeyPair:
    """The key pair kept as folder/name and folder/name.pub; made (private 0600) when missing."""
    private, public = folder / name, folder / f"{name}.pub"
    if not private.is_file() or not public.is_file():
        made = ed25519()
        # public first: once the private half exists, the pair is whole
        private.unlink(missing_ok=True)
        write_atomically(public, made.public + "\n")
        write_atomically(private, made.private, 0o600)
    return KeyPair(private.read_bytes(), public.read_text().strip())


def private_folder(path: Path) -> Path:
    """The folder, made when missing, readable by its owner alone."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def identity(state: State) -> Path:
    """The lab's own private SSH key."""
    return state.ssh / "id_ed25519"


def need_root(host: Host) -> None:
    """Raise when the host cannot be reached, lets nobody in, or gives no root."""
    with ssh.connect(host) as connection:
        # piped to sh: no quoting, and sudo needs to allow no more than a shell
        connection.run(["sh", "-s"], input="true\n", timeout=30)


def on_each(items: Iterable[T], act: Callable[[T], R]) -> list[R]:
    """Run `act` for each, eight at a time. Returns the results in order.

    Raises one error that names every host that failed.
    """
    found: list[R] = []
    errors: list[SlipwayError] = []
    with ThreadPoolExecutor(max_workers=8) as pool:
        for asked in [pool.submit(act, item) for item in items]:
            try:
                found.append(asked.result())
            except SlipwayError as error:
                errors.append(error)
    if errors:
        raise joined(errors)
    return found


def joined(errors: list[SlipwayError]) -> SlipwayError:
    """One error for several hosts: the first one's kind and advice, every one's first lines."""
    if len(errors) == 1:
        return errors[0]
    first = errors[0]
    # what a program printed is told by a type of its own, with other arguments
    kind = HostError if isinstance(first, CommandError) else type(first)
    whole = kind(
        f"{len(errors)} hosts failed: {first.where}: {first.what}" if first.where else first.what,
        tail="\n".join(
            [*first.tail.splitlines()[-6:], *(line for error in errors[1:] for line in error.lines()[:7])]
        ),
        action=first.action,
        evidence=tuple(path for error in errors for path in error.evidence),
    )
    whole.__cause__ = first
    return whole


def record(state: State, hosts: Hosts) -> bool:
    """Keep the hosts and their pinned keys in the state folder.

    Returns whether anything differs from before.
    """
    private_folder(state.ssh)
    lines = "".join(f"{openssh.known_hosts_line(host)}\n" for host in hosts.hosts if host.host_key)
    changed = write_atomically(state.known_hosts, lines, 0o600)
    return state.keep(hosts) or changed


JOURNAL_SCRIPT = r"""
echo "== failed units"; systemctl --failed --no-legend --plain --no-pager
for unit in $(systemctl --failed --no-legend --plain --no-pager | awk '{print $1}'); do
  echo "== status of $unit"; systemctl status --no-pager --lines=40 "$unit"
done
echo "== memory and disk"; free -m 2>/dev/null; df -h / 2>/dev/null
echo "== addresses and routes"; ip -brief address; ip route
echo "== journal"; journalctl --no-pager --lines=1500 --output=short-iso
"""


def host_reading(host: Host, console: Path | None = None) -> Reading:
    """A host's failed units, journal and console; what cannot be had is said in the file."""

    def read(seconds: float) -> str:
        parts: list[str] = []
        try:
            with ssh.connect(host, timeout=seconds) as connection:
                done = connection.run(["sh", "-s"], input=JOURNAL_SCRIPT, timeout=seconds, check=False)
                parts.append(done.stdout + done.stderr)
        except SlipwayError as error:
            parts.append("\n".join(["== no journal over SSH", *error.lines(), ""]))
        if console is not None and console.is_file():
            parts.append("== console\n" + tail(console, 400))
        return "\n".join(parts)

    return Reading(f"hosts/{host.name}.log", read)


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file; empty if there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 400 * lines))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
