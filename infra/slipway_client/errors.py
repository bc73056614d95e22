"""What can go wrong between a client and a model server, each with what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

from slipway_client.logins import without_logins


class SlipwayError(Exception):
    """An expected failure. The top prints it without a traceback and exits with its code.

    what: one sentence, the failure itself.
    where: host, pod, file:line or stage it happened on; empty when the sentence says it.
    tail: the last lines of the true cause, as the failing program printed them.
    action: what the reader can do now.
    evidence: files that hold more (a log, collected journals).
    No login stays in its words, whoever wrote them.

    exit_code: None stands for the code of the stage it happened in.
    """

    exit_code: int | None = None

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        tail: str = "",
        action: str = "",
        evidence: tuple[Path, ...] = (),
    ) -> None:
        self.what = without_logins(what)
        super().__init__(self.what)
        self.where = without_logins(where)
        self.tail = without_logins(tail.strip("\n"))
        self.action = without_logins(action)
        self.evidence = evidence

    def lines(self) -> list[str]:
        """The message as people read it, most important line first."""
        out = [f"{self.where}: {self.what}" if self.where else self.what]
        out += [f"  | {line}" for line in self.tail.splitlines()[-20:]]
        if self.action:
            out.append(f"  what to do: {self.action}")
        out += [f"  more in: {path}" for path in self.evidence]
        return out

    def in_one_line(self) -> str:
        """The failure and, in brackets, the last line of its true cause; without place and advice."""
        last = self.tail.splitlines()[-1].strip() if self.tail else ""
        return f"{self.what} ({last})" if last else self.what


class UsageError(SlipwayError):
    """Wrong use or settings."""

    exit_code = 2


class EnvironmentFault(SlipwayError):
    """The machine lacks something: a privilege, a program, disk, a free name or subnet."""

    exit_code = 3


def harmless(line: str) -> str:
    """The line without anything that could steer a terminal; a tab becomes a space."""
    return "".join(char if char.isprintable() else "?" for char in line.replace("\t", " "))


def cause(said: str) -> str:
    """The line of TensorFlow's words that says what was wrong; empty if none does.

    TensorFlow writes it first. Where in the graph it happened, and how many errors there were, says nothing
    to who sent the request.
    """
    lines = (line.strip() for line in said.splitlines())
    found = next((line for line in lines if line and not _AROUND.match(line)), "")
    return _NUMBERED.sub("", found)


_AROUND = re.compile(r"\[\[|Graph execution error|Original stack trace|\d+ root error\(s\) found")
_NUMBERED = re.compile(r"^\(\d+\)\s+([A-Z_]+: )?")


class RequestFailed(SlipwayError):
    """The server answered a request with an error. status: the gRPC status, e.g. INVALID_ARGUMENT."""

    exit_code = 1
    status = "UNKNOWN"

    def __init__(self, what: str, *, where: str = "", tail: str = "", action: str = "", status: str = ""):
        # A server's words may steer a terminal; names of signatures and in certificates are its words too.
        tail = "\n".join(map(harmless, tail.splitlines()))
        super().__init__(harmless(what), where=where, tail=tail, action=harmless(action))
        self.status = status or type(self).status

    def in_one_line(self) -> str:
        """The failure and, in brackets, what the server says was wrong: its first line, unlike a log's."""
        said = cause(self.tail)
        return f"{self.what} ({said})" if said else self.what


class TimedOut(RequestFailed):
    """No answer before the request's deadline."""

    exit_code = 3
    status = "DEADLINE_EXCEEDED"


class NotReachable(RequestFailed, EnvironmentFault):
    """Nothing that speaks this protocol answers at this address."""

    exit_code = 3
    status = "UNAVAILABLE"


class TlsFailed(NotReachable):
    """The server speaks TLS, but not with this client. Waiting does not help."""


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
    """HOST:PORT -> host, port; an IPv6 host stands in brackets. Raises UsageError for anything else."""
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
    """Whether a name can be looked up at all: Python encodes it by IDNA first, which some names refuse."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False
