"""One connection to a server, and what became of a request on it when no reply came."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from slipway_client.credentials import Tls, Token
from slipway_client.errors import NotReachable, TimedOut, UsageError, split_address
from slipway_client.interface import Reply, Request, Transport
from slipway_client.probe import why_unreachable

Protocol = Literal["tensorflow", "v2", "auto"]
Compression = Literal["gzip", "deflate"]
Contents = Literal["raw", "typed"]


@dataclass(frozen=True)
class Retries:
    """How requests that a server could not take are repeated, within their deadline.

    attempts: how often a request is sent at most, the first time included. first and most: seconds until the
    second attempt and between any two; they double from one to the next. statuses: those that are
    repeated. UNAVAILABLE is also that of a lost connection.
    """

    attempts: int = 3
    first: float = 0.1
    most: float = 1.0
    statuses: tuple[str, ...] = ("UNAVAILABLE",)

    def __post_init__(self) -> None:
        if not 2 <= self.attempts <= 5:  # gRPC takes no more than 5
            raise UsageError(f"retries: expected 2 to 5 attempts, got {self.attempts}")
        if not 0 < self.first <= self.most:
            raise UsageError(f"retries: expected 0 < first <= most, got {self.first:g} and {self.most:g}")

    def wait(self, attempt: int, status: str) -> float | None:
        """Seconds until the next attempt after this one (from 1) ended so; None if there is none."""
        if attempt >= self.attempts or status not in self.statuses:
            return None
        # Spread as gRPC does it, or clients that failed together would come back together.
        spread = random.uniform(0.8, 1.2)  # noqa: S311  # no secret
        return min(self.first * 2.0 ** (attempt - 1), self.most) * spread


@dataclass(frozen=True)
class Connection:
    """Where a server is and how it is spoken to; nothing is connected yet.

    server: HOST:PORT. timeout: seconds for each call, where the call does not say. protocol: auto finds out
    by asking. retries: None to let each failure be seen. round_robin: spread requests over all addresses the
    host has, as a headless Service has one for each pod. keep_alive: seconds of silence after which a
    connection is tried (HTTP/2 pings, TCP keep-alive); None for never. compression: of requests (REST: gzip
    only); answers may be compressed as well then. contents: how the Open Inference Protocol's tensors are
    written, raw bytes or typed values; None for raw over gRPC and JSON over REST. authority: whom a proxy
    shall pass the request to, if it is not the server's host: the header Host, or gRPC's :authority.

    Raises UsageError for an address or an option that means nothing, and for a token that others could read.
    """

    server: str
    transport: Transport = "grpc"
    protocol: Protocol = "tensorflow"
    timeout: float = 10.0
    tls: Tls | None = None
    token: Token | None = None
    retries: Retries | None = None
    round_robin: bool = False
    keep_alive: float | None = None
    compression: Compression | None = None
    contents: Contents | None = None
    authority: str = ""

    def __post_init__(self) -> None:
        host, _ = self.address
        if self.token is not None:
            self.token.allow(host, self.tls)
        if self.transport == "rest" and self.compression == "deflate":
            raise UsageError("servers' REST APIs read gzip, not deflate", action="take gzip")
        if self.timeout <= 0:
            raise UsageError(f"timeout: expected seconds above 0, got {self.timeout:g}")

    @property
    def address(self) -> tuple[str, int]:
        return split_address(self.server)


class Deadline:
    """When a call has taken too long. seconds: how long it may take in all."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def over(self) -> bool:
        return time.monotonic() >= self._end

    def left(self) -> float:
        """Seconds left, never quite none: what comes next ends by its own timeout then."""
        return max(self._end - time.monotonic(), 0.001)


class Wire:
    """What the channels of both transports have: headers to send, words for what went wrong."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def authorization(self) -> str:
        """The value of the header, or nothing where there is no token."""
        token = self.connection.token
        return "" if token is None else f"Bearer {token.current()}"

    def hidden(self, said: str) -> str:
        token = self.connection.token
        return said if token is None else token.hidden(said)

    def unreachable(self, said: str) -> NotReachable:
        """Why no answer came, found out by connecting by hand. said: the library's words."""
        connection = self.connection
        return why_unreachable(
            connection.server, tls=connection.tls, transport=connection.transport, said=self.hidden(said)
        )

    def timed_out(self, deadline: Deadline) -> TimedOut:
        return TimedOut(f"no answer within {deadline.seconds:g} s", where=self.connection.server)


class Channel(ABC):
    """Sends requests from any thread and waits for their replies.

    Raises NotReachable, TlsFailed and TimedOut where none comes; a refusal is a reply.
    """

    @abstractmethod
    def send(self, request: Request, deadline: Deadline) -> Reply: ...

    @abstractmethod
    def close(self) -> None: ...


class AsyncChannel(ABC):
    """As Channel, for one event loop."""

    @abstractmethod
    async def send(self, request: Request, deadline: Deadline) -> Reply: ...

    @abstractmethod
    async def close(self) -> None: ...
