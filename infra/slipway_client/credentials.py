"""How a client trusts a server and proves itself: certificates and tokens, all read from files."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

from slipway_client.errors import UsageError


@dataclass(frozen=True)
class Tls:
    """What TLS is spoken with; the files are PEM and read once.

    ca_file: whom to trust, or None for those this machine trusts. cert_file and key_file: the client's own
    certificate chain and key, for a server that asks for them (mutual TLS). server_name: the name that the
    server's certificate must have, where it is not the host that is connected to.

    Raises UsageError that names the file which is missing or holds something else.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    pem: bytes = field(default=b"", init=False, repr=False)
    chain: bytes | None = field(default=None, init=False, repr=False)
    key: bytes | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise UsageError(
                "a client's certificate and its key go together", action="give both --cert and --key"
            )
        if self.ca_file is not None:
            object.__setattr__(self, "pem", _read(self.ca_file, "the CA"))
            try:
                if not self.pem or not self._trust().cert_store_stats()["x509"]:
                    raise ValueError("nothing to trust")  # ssl would take this machine's CAs instead
            except (ssl.SSLError, ValueError) as error:  # ValueError: not even text
                raise UsageError(
                    "this is not a PEM file with certificates",
                    where=str(self.ca_file),
                    action="it begins with -----BEGIN CERTIFICATE-----",
                ) from error
        if self.cert_file is not None and self.key_file is not None:
            object.__setattr__(self, "chain", _read(self.cert_file, "the client's certificate"))
            object.__setattr__(self, "key", _read(self.key_file, "the client's key"))
            self.context()

    def context(self) -> ssl.SSLContext:
        """An SSL context that verifies a server's chain and its name, and has the client's certificate."""
        context = self._trust()
        if self.cert_file is not None:
            try:
                # A password would be asked for on the terminal: an encrypted key is refused instead.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: b"")
            except (OSError, ssl.SSLError, ValueError) as error:
                raise UsageError(
                    "these are not a certificate and its key in PEM, without a password",
                    where=f"{self.cert_file}, {self.key_file}",
                    action="the certificate comes first in its file, those that signed it follow",
                ) from error
        return context

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.pem.decode("ascii") if self.pem else None)


class Token:
    """A bearer token in a file, read again when the file has changed.

    without_tls: send it over plain connections too, whoever may listen. Without it only this machine's own
    addresses are told the token without TLS.

    Raises UsageError when the file cannot be read or does not hold one token.
    """

    def __init__(self, file: Path, *, without_tls: bool = False) -> None:
        self.file = file
        self.without_tls = without_tls
        self._guard = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._token = ""
        self.current()

    def __repr__(self) -> str:
        return f"Token({str(self.file)!r})"

    def current(self) -> str:
        """The token as it now stands in the file."""
        try:
            found = self.file.stat()
            # A mounted Secret is replaced by turning a link to another file: the inode tells.
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            with self._guard:
                if seen != self._seen:
                    self._token = _token(self.file.read_bytes(), self.file)
                    self._seen = seen
                return self._token
        except OSError as error:
            raise UsageError(f"cannot read the token: {error.strerror}", where=str(self.file)) from error

    def hidden(self, said: str) -> str:
        """A server's words without the token, should it repeat it."""
        return said.replace(self._token, "***") if self._token else said

    def allow(self, host: str, tls: Tls | None) -> None:
        """Raise UsageError where the token would be sent for others to read."""
        if tls is None and not self.without_tls and not _is_loopback(host):
            raise UsageError(
                f"the token would go to {host} without TLS, for others to read",
                action="give --ca (or --tls); where something else encrypts, such as a mesh: "
                "--token_without_tls",
            )


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {what}: {error.strerror}", where=str(path)) from error


def _token(raw: bytes, file: Path) -> str:
    text = raw.strip()
    if not text or not all(0x21 <= byte <= 0x7E for byte in text):  # nor may a header end early
        raise UsageError("expected one token, of visible ASCII characters and nothing else", where=str(file))
    return text.decode("ascii")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
