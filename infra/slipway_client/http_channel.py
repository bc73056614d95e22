"""HTTP/1.1 with kept connections, blocking and, from threads, under asyncio."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import itertools
import json
import socket
import ssl
import threading
import time
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from slipway_client.channel import AsyncChannel, Channel, Connection, Deadline, Wire
from slipway_client.interface import Reply, Request

# The HTTP codes TensorFlow Serving gives its statuses.
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_QUOTED = 300  # characters of a refusal that is not JSON
_LARGEST = 1 << 31  # bytes of an answer; a small compressed one may not grow without end
_AT_ONCE = 64  # requests that one client has in flight under asyncio
_LOOK_AGAIN = 1.0  # seconds after which a name is looked up again

Address = tuple[str, int]


class HttpChannel(Channel):
    def __init__(self, connection: Connection) -> None:
        self._wire = Wire(connection)
        self._trust = None if connection.tls is None else connection.tls.context()
        self._addresses = _Addresses(connection)
        self._guard = threading.Lock()
        self._idle: dict[Address, list[_Kept]] = defaultdict(list)
        self._closed = False

    def send(self, request: Request, deadline: Deadline) -> Reply:
        retries = self._wire.connection.retries
        attempt = 1
        while True:
            reply, lost = self._attempt(request, deadline)
            if retries is None or isinstance(lost, ssl.SSLError):
                break
            wait = retries.wait(attempt, "UNAVAILABLE" if reply is None else reply.status)
            if wait is None or wait >= deadline.left():
                break
            time.sleep(wait)
            attempt += 1
        if reply is None:
            raise self._wire.unreachable(str(lost) or type(lost).__name__) from lost
        return reply

    def close(self) -> None:
        with self._guard:
            self._closed = True
            for kept in itertools.chain(*self._idle.values()):
                kept.close()
            self._idle.clear()

    def _attempt(self, request: Request, deadline: Deadline) -> tuple[Reply | None, Exception | None]:
        """One reply, or why there is none. Raises TimedOut."""
        try:
            address = self._addresses.next()
            with self._guard:
                idle = self._idle[address]
                kept = idle.pop() if idle else None
            if kept is not None:
                try:
                    return self._exchange(kept, request, deadline), None
                except (ConnectionError, http.client.HTTPException):
                    pass  # a server may close a kept connection at any time; a fresh one decides
            fresh = _Kept(address, self._wire.connection, self._trust)
            return self._exchange(fresh, request, deadline), None
        except TimeoutError as error:
            raise self._wire.timed_out(deadline) from error
        except (OSError, http.client.HTTPException) as error:
            self._addresses.forget()
            return None, error

    def _exchange(self, kept: _Kept, request: Request, deadline: Deadline) -> Reply:
        try:
            body, headers = self._written(request)
            code, answered, raw, last = kept.exchange(request.path, body, headers, deadline)
        except BaseException:
            kept.close()
            raise
        with self._guard:
            if last or self._closed:
                kept.close()
            else:
                self._idle[kept.address].append(kept)
        if 200 <= code < 300:
            return Reply("OK", raw, headers=answered)
        said = self._wire.hidden(_said(raw))
        return Reply(_STATUSES.get(code, f"HTTP {code}"), raw, said, answered)

    def _written(self, request: Request) -> tuple[bytes | None, dict[str, str]]:
        headers = dict(request.headers)
        if self._wire.connection.authority:
            headers["host"] = self._wire.connection.authority
        if said := self._wire.authorization():
            headers["authorization"] = said
        if self._wire.connection.compression is None:
            return request.body, headers
        headers["accept-encoding"] = "gzip"
        if not request.body:
            return request.body, headers
        headers["content-encoding"] = "gzip"
        return gzip.compress(request.body, compresslevel=1), headers


class AsyncHttpChannel(AsyncChannel):
    """The blocking channel in threads of its own; at most 64 requests are in flight, more wait their turn."""

    def __init__(self, connection: Connection) -> None:
        self._channel = HttpChannel(connection)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="slipway-rest")

    async def send(self, request: Request, deadline: Deadline) -> Reply:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._channel.send, request, deadline)

    async def close(self) -> None:
        self._channel.close()
        await asyncio.to_thread(self._threads.shutdown)


class _Addresses:
    """Where the next request goes: to the host as it is named, or to each of its addresses in turn."""

    def __init__(self, connection: Connection) -> None:
        self._host, self._port = connection.address
        self._in_turn = connection.round_robin
        self._guard = threading.Lock()
        self._known: list[Address] = []
        self._turns = itertools.count()
        self._looked = -_LOOK_AGAIN

    def next(self) -> Address:
        if not self._in_turn:
            return self._host, self._port
        with self._guard:
            now = time.monotonic()
            if not self._known or now - self._looked > _LOOK_AGAIN:
                self._known, self._looked = self._found(), now
            return self._known[next(self._turns) % len(self._known)]

    def _found(self) -> list[Address]:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return sorted({(str(place[0]), self._port) for *_, place in found})

    def forget(self) -> None:
        """Look the name up again: one of its addresses did not answer."""
        with self._guard:
            self._known = []


class _Kept(http.client.HTTPConnection):
    """A connection to one address, by the name that the server is known by."""

    def __init__(self, address: Address, connection: Connection, trust: ssl.SSLContext | None) -> None:
        host, port = connection.address
        self._name = connection.tls.server_name if connection.tls and connection.tls.server_name else host
        super().__init__(self._name, port)
        self.default_port = 80 if trust is None else 443
        self.address = address
        self._trust = trust
        self._keep_alive = connection.keep_alive

    def connect(self) -> None:
        plain = socket.create_connection(self.address, self.timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._keep_alive is not None:
                _keep_alive(plain, self._keep_alive)
            self.sock = (
                plain if self._trust is None else self._trust.wrap_socket(plain, server_hostname=self._name)
            )
        except BaseException:
            plain.close()
            raise

    def exchange(
        self, path: str, body: bytes | None, headers: dict[str, str], deadline: Deadline
    ) -> tuple[int, dict[str, str], bytes, bool]:
        """Code, headers and body of the answer, and whether it was the connection's last."""
        self.timeout = deadline.left()
        if self.sock is None:
            self.connect()
        sock = self.sock
        sock.settimeout(deadline.left())
        self.request("GET" if body is None else "POST", path, body, headers)
        self.response_class = partial(_Answer, deadline)  # type: ignore[assignment]  # it is only called
        answer = self.getresponse()
        last = answer.will_close
        raw = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, _unpacked(raw) if found.get("content-encoding") == "gzip" else raw, last


class _Answer(http.client.HTTPResponse):
    """Ends at the deadline however slowly it comes: each read gets what is left, not the whole again."""

    def __init__(self, deadline: Deadline, sock: socket.socket, *words: Any, **named: Any) -> None:
        super().__init__(_Until(deadline, sock), *words, **named)  # type: ignore[arg-type]  # takes its makefile


class _Until(io.RawIOBase):
    """A socket's stream until a deadline."""

    def __init__(self, deadline: Deadline, sock: socket.socket) -> None:
        self._deadline, self._sock = deadline, sock
        self._stream = sock.makefile("rb", buffering=0)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int | None:
        if self._deadline.over():
            raise TimeoutError
        self._sock.settimeout(self._deadline.left())
        return self._stream.readinto(into)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _keep_alive(plain: socket.socket, seconds: float) -> None:
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):  # not every system lets a program choose
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), max(1, round(seconds)))


def _unpacked(raw: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        out = unpacking.decompress(raw, _LARGEST)
    except zlib.error as error:
        raise http.client.HTTPException(
            f"the answer is not the gzip data it is said to be: {error}"
        ) from error
    if not unpacking.eof:
        raise http.client.HTTPException("the answer's gzip data has no end, or is longer than 2 GiB")
    return out


def _said(raw: bytes) -> str:
    """The server's words in a refusal: the error of its JSON, or how its body begins."""
    try:
        answer: Any = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        for key in ("error", "detail"):
            if answer.get(key):
                return str(answer[key])
    return raw[:_QUOTED].decode(errors="replace")
