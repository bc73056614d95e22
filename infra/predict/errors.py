"""What can go wrong between a client and a model server, each with what to do about it."""

from __future__ import annotations

from infra.core.errors import EnvironmentFault, SlipwayError, UsageError


def harmless(line: str) -> str:
    """The line without anything that could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in line)


class RequestFailed(SlipwayError):
    """The server answered a request with an error. status: the gRPC status, e.g. INVALID_ARGUMENT."""

    exit_code = 1
    status = "UNKNOWN"

    def __init__(self, what: str, *, where: str = "", tail: str = "", action: str = "", status: str = ""):
        # What a server says, the names of its signatures and certificate too, is not ours.
        tail = "\n".join(map(harmless, tail.splitlines()))
        super().__init__(harmless(what), where=where, tail=tail, action=harmless(action))
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
    """The server speaks TLS, and not with this client: waiting changes nothing."""


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
    if not _is_host(host) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"not the address of a server: {server!r}, expected HOST:PORT, e.g. 127.0.0.1:8500",
            action="an IPv6 address stands in brackets: [::1]:8500",
        )
    return host, int(port)


def _is_host(name: str) -> bool:
    """Whether a name can be looked up at all; Python encodes it so and raises UnicodeError if not."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False
