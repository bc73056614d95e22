"""SSH through OpenSSH's own client: what its configuration, agents and jumps give counts here as in Ansible.

One connection is OpenSSH's master; commands and tunnels share it. Host keys are checked, never asked for.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.clients import known_hosts, openssh, passwords
from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault, HostError
from slipway.core.process import Completed
from slipway.core.types import Host

CONNECT_SECONDS = 10.0
# What a busy machine may take before a program begins, as for Ansible: sudo asks its own modules first. The
# host ends the program in its time by itself; when this is over too, it is OpenSSH that hangs.
_TO_BEGIN = 60.0
_BLOCK = 1 << 16
_OF_NO_CAUSE = ("debug1:", "OpenSSH_", "ended or not ready")  # lines of its log, and of core.process
_ANY = "host"  # what OpenSSH is called with to share a connection, wherever that leads
_GO_ON = (
    "check that the host still runs and is reached, then run the same command again: it goes on from there"
)
_RECORD_KEY = (
    "compare it with the machine's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there), then let "
    "`slipway hosts up --accept-new-keys` record it; or put what `ssh-keyscan -t ed25519 -p PORT ADDRESS` "
    "prints into known_hosts, or the key as slipway_host_key into the inventory"
)
# OpenSSH waits for what a program left behind, a daemon say: its end is told in a line of its own. And what
# sudo did not read is passed over up to a line that nobody else writes
_TELL_THE_END = 'mark=$1; shift; "$@"; code=$?; echo "$mark $code" >&2; exit "$code"'
_PAST_SUDO = 'mark=$1; shift; while IFS= read -r line && [ "$line" != "$mark" ]; do :; done; exec "$@"'


class Unreachable(HostError):
    """Nothing answers SSH at the host's address (yet)."""


class HostKeyRejected(HostError):
    """The machine at the host's address shows another key than the one that counts."""


class HostKeyUnknown(HostKeyRejected):
    """Nobody has recorded a key of this machine yet."""


class LoginRefused(HostError):
    """The machine, or one on the way to it, answers but does not let us in."""


@dataclass(frozen=True)
class Connection:
    """An open, verified connection to one host. Commands run as root: through sudo for other users.

    shared: the words of OpenSSH that lead through the connection; none for this machine itself.
    """

    host: Host
    shared: tuple[str, ...] = ()

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
        become: bool = True,
    ) -> Completed:
        """Run a program on the host to its end and return what it printed.

        input goes to its stdin. on_line gets each line of stdout and stderr as it comes. become:
        as root, the default, or as the login user. Raises CommandError when it fails (and `check`)
        or runs past `timeout` seconds; it is ended on the host then.
        """
        data = input.encode() if isinstance(input, str) else input
        return self._run(
            argv, [data] if data else None, timeout=timeout, check=check, on_line=on_line, become=become
        )

    def stream_in(
        self, argv: Sequence[str], local: Path, *, timeout: float | None = None, check: bool = True
    ) -> Completed:
        """Run a program on the host with the bytes of a local file as its stdin."""
        return self._run(argv, local, timeout=timeout, check=check)

    @contextmanager
    def tunnel(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        """A local port that leads to address:port as the host sees them; closed at the end of the block."""
        if not self.shared:
            yield (address, port)
            return
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        local, forward = self._forwarded(target)
        try:
            yield ("127.0.0.1", local)
        finally:
            # a connection that broke meanwhile has taken the tunnel along
            process.run([*self._control("cancel"), "-L", forward, _ANY], check=False, timeout=CONNECT_SECONDS)

    def _forwarded(self, target: str) -> tuple[int, str]:
        """(local port, OpenSSH's words for it): somebody else may take a free port before OpenSSH does."""
        for last in (False, False, True):
            with socket.create_server(("127.0.0.1", 0)) as free:
                local = free.getsockname()[1]
            forward = f"127.0.0.1:{local}:{target}"
            asked = process.run(
                [*self._control("forward"), "-L", forward, _ANY], check=False, timeout=CONNECT_SECONDS
            )
            if asked.returncode == 0:
                return local, forward
            if last or not self._is_open():
                break
        raise Unreachable(
            f"no tunnel to {target} over SSH", where=self.host.name, tail=asked.output, action=_GO_ON
        )

    def _control(self, act: str) -> list[str]:
        return ["ssh", *self.shared, "-O", act]

    def _is_open(self) -> bool:
        """Whether the connection still stands."""
        try:
            words = [*self._control("check"), _ANY]
            return not self.shared or process.run(words, check=False, timeout=5).returncode == 0
        except CommandError:  # it does not answer
            return False

    def _run(
        self,
        argv: Sequence[str],
        given: Path | list[bytes] | None,
        *,
        timeout: float | None,
        check: bool,
        on_line: Callable[[str], None] | None = None,
        become: bool = True,
    ) -> Completed:
        words = tuple(argv)
        started = words
        if timeout is not None:
            # ending OpenSSH alone leaves the program running on the host
            started = ("timeout", "--kill-after=5", f"{timeout:g}", *started)
        read: Path | Iterable[bytes] | None = given
        if become and self.host.user != "root":
            started, read = _as_root(self.host, started, given)
        try:
            done = self._done(started, read, None if timeout is None else timeout + _TO_BEGIN, on_line)
        except CommandError as error:  # its time is over
            raise CommandError(words, error.returncode, error.output, where=self.host.name) from error
        if done is None:
            raise Unreachable(
                f"the connection broke while `{' '.join(words)[:200]}` ran",
                where=self.host.name,
                action=_GO_ON,
            )
        late = timeout is not None and done.returncode == 124
        ended = f"\nno end after {timeout:g} s" if late else ""
        done = Completed(words, done.returncode, done.stdout, done.stderr + ended)
        if check and done.returncode != 0:
            raise CommandError(words, done.returncode, done.output, where=self.host.name)
        return done

    def _done(
        self,
        words: tuple[str, ...],
        given: Path | Iterable[bytes] | None,
        timeout: float | None,
        on_line: Callable[[str], None] | None,
    ) -> Completed | None:
        """A program that was run to its end, whatever it left behind; None if the connection broke."""
        if not self.shared:
            return process.run(
                words, input=given, timeout=timeout, check=False, on_line=on_line, where=self.host.name
            )
        mark, over = secrets.token_hex(16), threading.Event()

        def look(line: str) -> None:
            said = line.partition(mark)
            if said[1]:
                over.set()
            if on_line is not None and (said[0] or not said[1]):
                on_line(said[0])

        done = process.run(
            ["ssh", *self.shared, "-T", _ANY, shlex.join(("sh", "-c", _TELL_THE_END, "sh", mark, *words))],
            input=given,
            timeout=timeout,
            check=False,
            on_line=look,
            over=over,
            where=self.host.name,
        )
        err, told, end = done.stderr.partition(mark)
        if told:
            code, _, rest = end.lstrip().partition("\n")
            return Completed(words, int(code), done.stdout, err + rest)
        return done if self._is_open() else None


def _as_root(
    host: Host, words: tuple[str, ...], given: Path | list[bytes] | None
) -> tuple[tuple[str, ...], Path | Iterable[bytes] | None]:
    """The words that run a program as root, and what is written to them: sudo's password first, if any."""
    password = passwords.of(host).become
    if password is None:
        return ("sudo", "-n", "--", *words), given
    mark = secrets.token_hex(16)
    # -k: what sudo remembers must not leave the password to the program
    sudo = ("sudo", "-k", "-S", "-p", "", "--", "sh", "-c", _PAST_SUDO, "sh", mark, *words)
    return sudo, _after(f"{password}\n{mark}\n".encode(), given)


def _after(first: bytes, given: Path | list[bytes] | None) -> Iterator[bytes]:
    yield first
    if isinstance(given, Path):
        with given.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    else:
        yield from given or ()


@contextmanager
def connect(host: Host, timeout: float = CONNECT_SECONDS) -> Iterator[Connection]:
    """Open a connection to a host whose key is the one that counts; closed at the end of the block.

    timeout in seconds for each step of the way. Raises HostKeyRejected, LoginRefused or Unreachable.
    """
    if host.connection == "local":
        yield Connection(host)
        return
    if host.host_key:
        _need_key(host)
    with _socket_folder() as folder:
        try:
            with _master(host, folder, timeout) as shared:
                connection = Connection(host, shared)
                yield connection
        except _Ended as error:
            raise _failure(host, error.said) from error.__cause__


class _Ended(Exception):
    """OpenSSH ended, or stayed silent, before there was a connection."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


@contextmanager
def _master(host: Host, folder: Path, timeout: float) -> Iterator[tuple[str, ...]]:
    """OpenSSH with an open connection; yields the words that lead others through it. Raises _Ended."""
    pinned = folder / "known_hosts"
    way, open_ = folder / "way", secrets.token_hex(8)
    try:
        if host.host_key:
            pinned.write_text(f"{openssh.known_hosts_line(host)}\n", encoding="utf-8")
        environment = _password(host, folder)
    except OSError as error:
        raise _no_room(error) from error
    argv = [
        *("ssh", "-N", "-S", str(way), "-o", "ControlMaster=yes", "-o", "ControlPersist=no"),
        # OpenSSH says so by itself once it is let in and others can share the connection
        *("-o", "PermitLocalCommand=yes", "-o", f"LocalCommand=echo {open_}", "-o", "LogLevel=DEBUG1"),
        *("-o", f"ConnectTimeout={max(1, round(timeout))}"),
        *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
        # what the user's configuration wants for shells
        *("-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none", "-o", "RequestTTY=no"),
        *("-o", f"BatchMode={'no' if environment else 'yes'}", "-o", "NumberOfPasswordPrompts=1"),
        *openssh.words(host, pinned),
    ]
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                process.running(
                    argv, ready=lambda line: line == open_, timeout=3 * timeout + 5, env=environment
                )
            )
        except CommandError as error:
            raise _Ended(error.output) from error
        except EnvironmentFault as error:
            error.action = "`slipway setup` installs openssh-client"
            raise
        # nothing but this connection may be used: no configuration, and no connection of its own
        yield ("-F", "none", "-S", str(way), "-o", "ProxyCommand=false", "-o", "LogLevel=ERROR")


@contextmanager
def _socket_folder() -> Iterator[Path]:
    """A private folder whose name leaves room for a socket's."""
    try:
        usual = tempfile.gettempdir()
    except OSError as error:  # there is none that can be written to
        raise _no_room(error) from error
    short = usual if len(usual) < 60 else "/tmp"  # noqa: S108  # what is made in it is private
    try:
        made = tempfile.TemporaryDirectory(prefix="slip-ssh-", dir=short, ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_room(error) from error
    with made as name:
        yield Path(name)


def _no_room(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"no SSH connection without a temporary file: {error.strerror}",
        where=str(error.filename or ""),
        action="make room, or name another folder in TMPDIR",
    )


def _password(host: Host, folder: Path) -> dict[str, str]:
    """The environment in which OpenSSH is told the host's password; empty if it takes none."""
    password = passwords.of(host).login
    if password is None:
        return {}
    name = openssh.known_name(host) if host.host_key else host.address
    return passwords.answering(folder, f"{host.user}@{name}", password)


def _failure(host: Host, said: str) -> HostError:
    """What OpenSSH's words mean."""
    lines = [line.strip() for line in said.splitlines() if not line.startswith(_OF_NO_CAUSE)]
    told = "\n".join(line for line in lines if line and not line.startswith("@"))[-2000:]
    shown = re.findall(r"^debug1: Server host key: (\S+ \S+)", said, re.MULTILINE)
    where = f"{host.address}:{host.port}"
    if "revoked" in said.lower() and "host key" in said.lower():
        return HostKeyRejected(
            f"the machine at {where} shows a host key that is revoked",
            where=host.name,
            tail=told,
            action="give the machine a new key and record that",
        )
    if host.host_key and shown and "verification failed" in said:
        return HostKeyRejected(
            f"the machine at {where} shows another host key than the pinned one",
            where=host.name,
            tail=f"pinned {openssh.fingerprint(host.host_key)}\nshown  {shown[-1]}",
            action="if the machine was really reinstalled, record its new key; else someone is in between",
        )
    if re.search(r"No \S+ host key is known for", said):
        return HostKeyUnknown(
            f"the host key of the machine at {where} is not known: nothing is accepted unseen",
            where=host.name,
            tail=f"shown {shown[-1]}" if shown else told,
            action=_RECORD_KEY,
        )
    if "ost key verification failed" in said:
        return HostKeyRejected(
            f"the way to {where} ends at a host key that is not the recorded one, or not recorded",
            where=host.name,
            tail=told,
            action="log in there once by hand with ssh, which says which machine it is about",
        )
    refused = re.search(r"^.*(Permission denied \(|Too many authentication failures).*$", said, re.MULTILINE)
    if refused is not None:
        return LoginRefused(
            f"{host.user}@{where} refuses the login: {refused[0].removeprefix('debug1: ').strip()}",
            where=host.name,
            tail=told if len(lines) > 1 else "",
            action=f"put the public half of {host.identity or 'your key'} into the user's authorized_keys",
        )
    return Unreachable(
        f"no SSH at {where}: {told.splitlines()[-1] if told else 'it does not answer'}",
        where=host.name,
        tail="\n".join(told.splitlines()[:-1]),
        action="check that the machine runs, its address and port, and that nothing filters them",
    )


def _need_key(host: Host) -> None:
    """Raise HostKeyRejected if the pinned host key is not a key."""
    if known_hosts.public_key(host.host_key) is None:
        raise HostKeyRejected(
            f"the pinned host key is not a public key: {host.host_key[:60]!r}",
            where=host.name,
            action=_RECORD_KEY,
        )


def shown_key(host: Host) -> str:
    """The host key, "ssh-ed25519 AAAA...", that the machine shows now; nothing says yet that it is right.

    Raises Unreachable when there is none to be had.
    """
    with _socket_folder() as folder:
        seen = folder / "seen"
        said = process.run(
            [
                *("ssh", "-o", "StrictHostKeyChecking=accept-new", "-o", "HashKnownHosts=no"),
                *("-o", f"UserKnownHostsFile={openssh.quoted(seen)}", "-o", "GlobalKnownHostsFile=/dev/null"),
                *("-o", "UpdateHostKeys=no", "-o", "PreferredAuthentications=none", "-o", "BatchMode=yes"),
                *("-o", f"ConnectTimeout={round(CONNECT_SECONDS)}", "-o", "LogLevel=DEBUG1"),
                *openssh.words(host, seen),
                "true",
            ],
            check=False,
            timeout=6 * CONNECT_SECONDS,
            where=host.name,
        )
        lines = seen.read_text().splitlines() if seen.is_file() else []
    if not lines:
        raise _failure(host, said.stderr)
    return " ".join(lines[-1].split()[1:3])
