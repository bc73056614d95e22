"""What can go wrong between a client and a model server, each with what to do about it."""

from __future__ import annotations

import errno
import socket
import ssl

from infra.core.errors import EnvironmentFault, SlipwayError, UsageError

PROBE_SECONDS = 3.0


class RequestFailed(SlipwayError):
    """The server answered a request with an error. status: the gRPC status, e.g. INVALID_ARGUMENT."""

    exit_code = 1
    status = "UNKNOWN"

    def __init__(self, what: str, *, where: str = "", tail: str = "", action: str = "", status: str = ""):
        super().__init__(what, where=where, tail=tail, action=action)
        self.status = status or type(self).status


class TimedOut(RequestFailed):
    """No answer before the request's deadline."""

    exit_code = 3
    status = "DEADLINE_EXCEEDED"


class NotReachable(RequestFailed, EnvironmentFault):
    """Nothing that speaks this protocol answers at this address."""

    exit_code = 3
    status = "UNAVAILABLE"


class TlsFailed(NotReachable):
    """One side speaks TLS and the other does not, or the certificate is not trusted."""


class NotReady(RequestFailed, EnvironmentFault):
    """The server answers, but no version of the model is AVAILABLE."""

    exit_code = 3
    status = "UNAVAILABLE"


class WrongModel(RequestFailed, UsageError):
    """The server has no model or version of this name."""

    exit_code = 2
    status = "NOT_FOUND"


class WrongSignature(RequestFailed, UsageError):
    """The model has no such signature, or the signature has no such input."""

    exit_code = 2
    status = "INVALID_ARGUMENT"


def split_address(server: str) -> tuple[str, int]:
    """HOST:PORT -> host, port; [::1]:8500 for IPv6. Raises UsageError when it is neither."""
    host, _, port = server.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"not the address of a server: {server!r}, expected HOST:PORT, e.g. 127.0.0.1:8500",
            action="an IPv6 address stands in brackets: [::1]:8500",
        )
    return host, int(port)


def why_unreachable(server: str, *, tls: bool, transport: str, said: str) -> NotReachable:
    """Find out why a connection to HOST:PORT brought no answer, by trying it by hand.

    said: what the library reported. Takes at most a few times PROBE_SECONDS.
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
    if tls != accepts_tls or tls:
        what, action = _tls_words(asked=tls, spoken=accepts_tls)
        return TlsFailed(what, where=server, tail=said, action=action)
    speaks_http = _speaks_http1(host, port)
    if transport == "grpc" and speaks_http:
        what = "this port answers HTTP/1.1, not gRPC"
        action = "ask the gRPC port (8500 by default), or use --transport rest"
    elif transport == "rest" and not speaks_http:
        what = "this port does not answer HTTP/1.1"
        action = "ask the REST port (8501 by default), or use --transport grpc"
    else:
        what = "the server accepted the connection and gave no answer"
        action = "it may be starting, stopping or something else: read its log"
    return NotReachable(what, where=server, tail=said, action=action)


def _tls_words(*, asked: bool, spoken: bool) -> tuple[str, str]:
    if asked and spoken:
        return (
            "the TLS handshake failed",
            "give the CA that signed the server's certificate with --ca_file, and a name the certificate has",
        )
    if asked:
        return "the server does not speak TLS", "leave --tls and --ca_file out, or ask the port that has TLS"
    return "the server speaks TLS and was asked without it", "give --ca_file, or --tls for a public CA"


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
    # Only asks whether TLS is spoken there; nothing is sent and nothing believed.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((host, port), PROBE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        # A server that asks for the client's certificate speaks TLS too.
        return "ALERT" in str(error.reason or "")
    except OSError:
        return False


def _speaks_http1(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as plain:
            plain.settimeout(PROBE_SECONDS)
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False
