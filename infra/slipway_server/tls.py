"""TLS as TensorFlow Serving's --ssl_config_file describes it, for both doors, and as its files are now.

A certificate that was renewed on disk is used by the next connection. What cannot be used, such as a
certificate that came before its key, is told in the log and changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format
from slipway_client import messages
from slipway_client.errors import UsageError

from slipway_server import log

_Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Material:
    """What an SSLConfig says, as PEM. files: those it was read from."""

    key: bytes
    certificate: bytes
    ca: bytes
    client_verify: bool
    files: tuple[Path, ...]


def read(path: Path) -> Material:
    """An SSLConfig in protobuf's text format. A value is PEM, as in upstream, or an absolute path to it.

    Raises UsageError naming the file and what is wrong.
    """
    files = [path]
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), messages.SSLConfig())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", where=str(path)) from error
    except text_format.ParseError as error:
        raise UsageError(f"not a text-format SSLConfig: {error}", where=str(path)) from error

    def pem(field: str) -> bytes:
        value: str = getattr(config, field).strip()
        if not value.startswith("/"):
            if value and not value.startswith("-----BEGIN "):
                raise UsageError(f"{field} is neither PEM nor an absolute path", where=str(path))
            return value.encode()
        files.append(Path(value))
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise UsageError(f"{field} cannot be read: {error}", where=str(path)) from error

    found = Material(
        pem("server_key"), pem("server_cert"), pem("custom_ca"), config.client_verify, tuple(files)
    )
    for name, value in (("server_key", found.key), ("server_cert", found.certificate)):
        if not value:
            raise UsageError(f"{name} is missing", where=str(path))
    if found.client_verify and not found.ca:
        raise UsageError(
            "client_verify needs custom_ca, which signs the clients' certificates", where=str(path)
        )
    return found


class Tls:
    """One SSLConfig in use. May be asked from any thread: gRPC does its handshakes in its own."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError when the file, or a file that it names, cannot be used."""
        self._path = path
        self._material = read(path)
        self._stamp = _stamp(self._material.files)
        self._context = _context(self._material, path)
        self._handed = self._material  # what gRPC has
        self.client_verify = self._material.client_verify

    def context(self) -> ssl.SSLContext:
        """For a server of asyncio: each handshake goes on with the newest context."""
        first = _context(self._material, self._path)

        def choose(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._context

        first.sni_callback = choose  # called without a server's name too
        return first

    def credentials(self) -> grpc.ServerCredentials:
        """For gRPC, which asks at each handshake whether there is something newer."""

        def fetch() -> Any:
            newest = self._material
            if self._handed is newest:
                return None
            self._handed = newest
            return _configuration(newest)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._material), fetch, require_client_authentication=self.client_verify
        )

    def look(self) -> None:
        """Take up what has changed on disk, if it can be used."""
        stamp = _stamp(self._material.files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            material = read(self._path)
            if material.client_verify != self.client_verify:
                raise UsageError("client_verify has changed, which needs a restart", where=str(self._path))
            context = _context(material, self._path)
        except UsageError as error:
            log.event("certificates_refused", level="error", error="; ".join(error.lines()))
            return
        self._context = context
        self._material = material
        self._stamp = _stamp(material.files)
        log.event("certificates_taken_up", file=str(self._path))


def _configuration(material: Material) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], material.ca if material.client_verify else None
    )


def _context(material: Material, path: Path) -> ssl.SSLContext:
    """Raises UsageError when key and certificate do not belong together, or are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No sessions to resume: they would outlive the certificates, and the CA, that they were made under.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        with _as_file(material.certificate) as certificate, _as_file(material.key) as key:
            context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(
            "server_key and server_cert cannot be used together", where=str(path), tail=str(error)
        ) from error
    if material.client_verify:
        try:
            context.load_verify_locations(cadata=material.ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise UsageError("custom_ca holds no certificate", where=str(path), tail=str(error)) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted: it must be one without a password")


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to the content, which is in memory only: OpenSSL takes keys from files alone."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _stamp(files: tuple[Path, ...]) -> _Stamp:
    """What tells whether files are other ones. Symlinks are followed: so Kubernetes changes a Secret."""
    out = []
    for file in files:
        try:
            facts = file.stat()
        except OSError:
            out.append((str(file), 0, 0, 0))
        else:
            out.append((str(file), facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(out)
