"""SSH through paramiko: pinned host keys only, commands, files into them, tunnels."""

from __future__ import annotations

import contextlib
import select
import shlex
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko

from slipway.clients import known_hosts
from slipway.core import interrupt
from slipway.core.errors import CommandError, HostError
from slipway.core.process import Completed
from slipway.core.types import Host

CONNECT_SECONDS = 10.0
_BLOCK = 1 << 16
_GO_ON = (
    "check that the host still runs and is reached, then run the same command again: it goes on from there"
)
_RECORD_KEY = (
    "`ssh-keyscan -t ed25519 ADDRESS` prints the machine's key: compare it with the one on the machine, then "
    "record it in known_hosts or as slipway_host_key in the inventory"
)


class Unreachable(HostError):
    """Nothing answers SSH at the host's address (yet)."""


class HostKeyRejected(HostError):
    """The machine at the host's address shows another key than the pinned one."""


class LoginRefused(HostError):
    """The machine answers but does not let this key in."""


class Connection:
    """An open, verified connection to one host. Commands run as root: through sudo for other users."""

    def __init__(self, host: Host, client: paramiko.SSHClient) -> None:
        self.host = host
        self._client = client

    @property
    def _transport(self) -> Any:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise Unreachable("the SSH connection was lost", where=self.host.name, action=_GO_ON)
        return transport

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
            argv, [data] if data else [], timeout=timeout, check=check, on_line=on_line, become=become
        )

    def stream_in(
        self, argv: Sequence[str], local: Path, *, timeout: float | None = None, check: bool = True
    ) -> Completed:
        """Run a program on the host with the bytes of a local file as its stdin."""
        return self._run(argv, _blocks(local), timeout=timeout, check=check)

    @contextmanager
    def tunnel(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        """A local port that leads to address:port as the host sees them; closed at the end of the block."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        stopping = threading.Event()
        transport = self._transport

        def serve() -> None:
            while not stopping.is_set():
                ready, _, _ = select.select([listener], [], [], 0.2)
                if not ready:
                    continue
                try:
                    taken, peer = listener.accept()
                except OSError:
                    return
                threading.Thread(
                    target=_pump, args=(transport, taken, (address, port), peer, stopping), daemon=True
                ).start()

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        try:
            yield ("127.0.0.1", listener.getsockname()[1])
        finally:
            stopping.set()
            server.join(2)
            listener.close()

    def _run(
        self,
        argv: Sequence[str],
        stdin: Iterable[bytes],
        *,
        timeout: float | None,
        check: bool,
        on_line: Callable[[str], None] | None = None,
        become: bool = True,
    ) -> Completed:
        words = tuple(argv)
        started = words
        if timeout is not None:
            # closing the channel alone leaves the program running on the host
            started = ("timeout", "--kill-after=5", f"{timeout:g}", *started)
        if become and self.host.user != "root":
            started = ("sudo", "-n", "--", *started)
        try:
            channel = self._transport.open_session(timeout=CONNECT_SECONDS)
            channel.exec_command(shlex.join(started))
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Unreachable(
                f"cannot start a command over SSH: {error}", where=self.host.name, action=_GO_ON
            ) from error
        out: list[str] = []
        err: list[str] = []
        readers = [
            threading.Thread(target=_read, args=(stream, lines, on_line), daemon=True)
            for stream, lines in ((channel.makefile("rb"), out), (channel.makefile_stderr("rb"), err))
        ]
        try:
            for reader in readers:
                reader.start()
            _send(channel, stdin)
            with contextlib.suppress(OSError):
                channel.shutdown_write()
            limit = None if timeout is None else timeout + 10
            if not interrupt.until(channel.status_event.wait, limit):
                raise CommandError(words, -9, "".join(err or out) + "\nno end", where=self.host.name)
            _drain(readers, lambda: len(out) + len(err))
            code = int(channel.recv_exit_status())
        finally:
            channel.close()
        if code == -1:
            raise Unreachable(
                f"the connection broke while `{' '.join(words)[:200]}` ran",
                where=self.host.name,
                tail="".join(err or out),
                action=_GO_ON,
            )
        if timeout is not None and code == 124:
            err.append(f"\nno end after {timeout:g} s")
        done = Completed(words, code, "".join(out), "".join(err))
        if check and code != 0:
            raise CommandError(words, code, done.output, where=self.host.name)
        return done


@contextmanager
def connect(host: Host, identity: Path | None, timeout: float = CONNECT_SECONDS) -> Iterator[Connection]:
    """Open a connection to a host whose key is the pinned one; closed at the end of the block.

    identity: the private key file, None for an agent's and the user's own keys. timeout in seconds
    for each step of the handshake. Raises HostKeyRejected, LoginRefused or Unreachable.
    """
    key = _pinned_key(host)
    client = paramiko.SSHClient()
    # a key of another kind than the pinned one is refused too: nothing is accepted unseen
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.get_host_keys().add(known_name(host), key.get_name(), key)
    try:
        try:
            client.connect(
                host.address,
                port=host.port,
                username=host.user,
                key_filename=str(identity) if identity is not None else None,
                allow_agent=identity is None,
                look_for_keys=identity is None,
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
            )
        except paramiko.BadHostKeyException as error:
            raise HostKeyRejected(
                f"the machine at {host.address}:{host.port} shows another host key than the pinned one",
                where=host.name,
                tail=f"pinned {fingerprint(host.host_key)}\nshown  {error.key.get_name()} "
                f"{error.key.fingerprint}",
                action="if the machine was really reinstalled, record its new key; else someone is in "
                "between",
            ) from error
        except paramiko.AuthenticationException as error:
            raise LoginRefused(
                f"{host.user}@{host.address}:{host.port} refuses the login: {error}",
                where=host.name,
                action=f"put the public half of {identity or 'your key'} into the user's authorized_keys",
            ) from error
        except Exception as error:  # paramiko hands on whatever its thread ended with, an IndexError for one
            raise Unreachable(
                f"no SSH at {host.address}:{host.port}: {error or type(error).__name__}",
                where=host.name,
                action="check that the machine runs, its address and port, and that nothing filters them",
            ) from error
        transport = client.get_transport()
        if transport is not None:
            transport.set_keepalive(15)
        yield Connection(host, client)
    finally:
        client.close()


def _pinned_key(host: Host) -> Any:
    """The host's pinned key as paramiko's. Raises HostKeyRejected if it is not a key."""
    key = known_hosts.public_key(host.host_key)
    if key is None:
        raise HostKeyRejected(
            f"the pinned host key is not a public key: {host.host_key[:60]!r}",
            where=host.name,
            action=_RECORD_KEY,
        )
    return key


def known_name(host: Host) -> str:
    """The host as known_hosts names it."""
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


def fingerprint(host_key: str) -> str:
    """The SHA256 fingerprint of a public key line, as ssh prints it; the line itself if it is not a key."""
    key = known_hosts.public_key(host_key)
    return f"{key.get_name()} {key.fingerprint}" if key is not None else host_key


def openssh_options(known_hosts_file: Path) -> list[str]:
    """Words that let OpenSSH accept the keys of this file alone, not of the system's file nor of the DNS."""
    return [
        *("-o", "StrictHostKeyChecking=yes"),
        *("-o", f"UserKnownHostsFile={_quoted(known_hosts_file)}"),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "VerifyHostKeyDNS=no"),
    ]


def openssh(host: Host, identity: Path | None, known_hosts_file: Path) -> list[str]:
    """OpenSSH's command line for a shell on the host; what is added to it is run there."""
    argv = ["ssh", "-p", str(host.port), *openssh_options(known_hosts_file)]
    if identity is not None:
        argv += ["-o", f"IdentityFile={_quoted(identity)}", "-o", "IdentitiesOnly=yes"]
    return [*argv, f"{host.user}@{host.address}"]


def _quoted(path: Path) -> str:
    """A path in an option of OpenSSH's, which splits at blanks, takes quotes off and replaces %."""
    text = str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def known_hosts_line(host: Host) -> str:
    """The host's pinned key as a line of known_hosts."""
    return f"{known_name(host)} {host.host_key}"


def _blocks(local: Path) -> Iterator[bytes]:
    with local.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _send(channel: Any, blocks: Iterable[bytes]) -> None:
    """Write to a program's stdin; it may end, or the connection break, before it has read everything."""
    for block in blocks:
        interrupt.check()
        try:
            channel.sendall(block)
        except OSError:
            return


def _read(stream: Any, lines: list[str], on_line: Callable[[str], None] | None) -> None:
    for raw in stream:
        line = raw.decode(errors="replace")
        lines.append(line)
        if on_line is not None:
            on_line(line.rstrip("\n"))


def _drain(readers: Sequence[threading.Thread], lines: Callable[[], int]) -> None:
    """Wait for the rest of the output; not for a daemon left behind that holds the streams open."""
    before = -1
    while any(reader.is_alive() for reader in readers) and lines() != before:
        before = lines()
        for reader in readers:
            reader.join(0.5)


def _pump(
    transport: Any,
    taken: socket.socket,
    target: tuple[str, int],
    peer: tuple[str, int],
    stopping: threading.Event,
) -> None:
    """Move bytes both ways between an accepted socket and a channel until both ends are done."""
    try:
        channel = transport.open_channel("direct-tcpip", target, peer, timeout=CONNECT_SECONDS)
    except (paramiko.SSHException, OSError, EOFError):
        taken.close()  # the client sees what it would see without the tunnel: a closed connection
        return
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    open_ends = {taken, channel}
    try:
        while open_ends and not stopping.is_set():
            ready, _, _ = select.select(list(open_ends), [], [], 0.2)
            for end in ready:
                data = end.recv(_BLOCK)
                if end is taken:
                    if data:
                        channel.sendall(data)
                    else:
                        channel.shutdown_write()
                        open_ends.discard(taken)
                elif data:
                    taken.sendall(data)
                else:
                    taken.shutdown(socket.SHUT_WR)
                    open_ends.discard(channel)
    except (OSError, EOFError):
        pass  # one end is gone; closing both tells the other
    finally:
        channel.close()
        taken.close()
