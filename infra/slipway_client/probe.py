"""Find out why a connection brought no answer: try the address by hand after a request has failed."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from typing import Any

from slipway_client.credentials import Tls
from slipway_client.errors import NotReachable, TlsFailed, split_address

PROBE_SECONDS = 3.0


def why_unreachable(server: str, *, tls: Tls | None, transport: str, said: str) -> NotReachable:
    """Connect to HOST:PORT by hand and tell why a request got no answer there.

    tls: what it was spoken with, or None for a plain connection. said: what the library reported. Takes at
    most a few times PROBE_SECONDS.
    """
    host, port = split_address(server)
    try:
        socket.create_connection((host, port), PROBE_SECONDS).close()
    except OSError as error:
        return NotReachable(
            f"cannot reach the server: {_reason(error, host)}",
            where=server,
            action="check that the server runs and that this address and port are its own",
        )
    accepts_tls = _accepts_tls(host, port)
    if tls is not None and accepts_tls:
        return _over_tls(server, tls, transport, said)
    if accepts_tls:
        return TlsFailed(
            "the server speaks TLS and was asked without it",
            where=server,
            tail=said,
            action="give --ca, or --tls for a public CA",
        )
    speaks_http = _speaks_http1(host, port)
    if tls is not None:
        what = "the server does not speak TLS"
        action = "leave --tls and --ca out, or ask the port that has TLS"
    elif transport == "grpc" and speaks_http:
        what, action = "this port answers HTTP/1.1, not gRPC", _GRPC_PORT
    elif transport == "rest" and not speaks_http:
        what, action = "this port does not answer HTTP/1.1", _REST_PORT
    else:
        what = "the server accepted the connection and gave no answer"
        action = "it may be starting, stopping or something else: read its log"
    return NotReachable(what, where=server, tail=said, action=action)


_GRPC_PORT = "ask the gRPC port (8500 by default), or use --transport rest"
_REST_PORT = "ask the REST port (8501 by default), or use --transport grpc"


def _over_tls(server: str, tls: Tls, transport: str, said: str) -> NotReachable:
    """Why no answer came from a port that speaks TLS."""
    host, port = split_address(server)
    trust = tls.context()
    trust.set_alpn_protocols(["h2"] if transport == "grpc" else ["http/1.1"])
    answer: bytes | None = None
    protocol: str | None = "h2"
    try:
        with _handshake(host, port, trust, tls.server_name) as connection:
            protocol = connection.selected_alpn_protocol()
            if transport == "rest":
                connection.sendall(_REQUEST)
            answer = connection.recv(5)  # TLS 1.3 refuses a client only after the handshake
    except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        answer = b""
    except ssl.SSLError as error:
        what, action = _refusal(host, port, trust, error, mutual=tls.cert_file is not None)
        return TlsFailed(what, where=server, tail=said, action=action)
    except OSError:
        pass  # silence: TLS itself works
    if transport == "grpc" and protocol != "h2":
        what, action = "this port speaks TLS without HTTP/2, so not gRPC", _GRPC_PORT
    elif transport == "rest" and answer and answer != b"HTTP/":
        what, action = "this port speaks TLS and does not answer HTTP/1.1", _REST_PORT
    elif answer == b"":
        what = "the server ends the connection after the TLS handshake"
        action = (
            "it may not accept this client's certificate, be the other transport's port, or be stopping"
            if tls.cert_file
            else "it may want a certificate of its clients (--cert and --key),"
            " be the other transport's port, or be stopping"
        )
    else:
        what = "the server speaks TLS and gave no answer"
        action = "it may be starting or stopping: read its log"
    return NotReachable(what, where=server, tail=said, action=action)


# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_NAME = (62, 64)
# TLS alerts about the certificate of the one they are sent to.
_NOT_THIS_CLIENT = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN")


def _refusal(
    host: str, port: int, asked: ssl.SSLContext, error: ssl.SSLError, *, mutual: bool
) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"the server's certificate is not accepted: {error.verify_message.rstrip('.')}"
        if error.verify_code in _OTHER_NAME:
            names = _names(host, port, asked)
            return what, f"ask by a name the certificate has, or give it with --server_name: {names}"
        return what, "give the CA that signed it with --ca"
    words = str(error)
    if "CERTIFICATE_REQUIRED" in words or "HANDSHAKE_FAILURE" in words:
        return "the server wants a certificate of its clients", "give one with --cert and --key"
    if mutual and any(word in words for word in _NOT_THIS_CLIENT):
        return "the server does not accept this client's certificate", "give one that its CA has signed"
    return f"the TLS handshake failed: {words}", "ask a server with TLS 1.2 or 1.3"


def _handshake(host: str, port: int, context: ssl.SSLContext, name: str = "") -> ssl.SSLSocket:
    with contextlib.ExitStack() as undo:
        plain = undo.enter_context(socket.create_connection((host, port), PROBE_SECONDS))
        connection = context.wrap_socket(plain, server_hostname=name or host)
        undo.pop_all()
        return connection


def _names(host: str, port: int, context: ssl.SSLContext) -> str:
    """The names in a certificate whose chain is trusted."""
    context.check_hostname = False
    try:
        with _handshake(host, port, context) as connection:
            found = connection.getpeercert() or {}
    except OSError:
        return "it could not be read"
    names: Any = found.get("subjectAltName", ())
    return ", ".join(str(name) for _, name in names) or "it has none"


def _reason(error: OSError, host: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name {host} has no address ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"no answer to a connection attempt within {PROBE_SECONDS:g} s"
    if error.errno == errno.ECONNREFUSED:
        return "connection refused, nothing listens there"
    return error.strerror or str(error)


def _accepts_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    # This only finds out whether the port speaks TLS: nothing is sent, and no answer is trusted.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with _handshake(host, port, context):
            return True
    except ssl.SSLError as error:
        # A server that asks for the client's certificate speaks TLS too.
        return "ALERT" in str(error.reason or "")
    except OSError:
        return False


_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def _speaks_http1(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as plain:
            plain.sendall(_REQUEST)
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False
