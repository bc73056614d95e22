"""The REST port over asyncio and h11: connections, and HTTP/1.1 with its limits.

h11 is an HTTP/1.1 protocol engine without dependencies and without I/O: it parses and checks, and
this file owns every read, so that each wait has a limit and the bytes held are counted. What a
request is answered with is in rest_routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import traceback
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

import h11
from slipway_client.errors import EnvironmentFault

from slipway_server import access_log, log
from slipway_server.access_log import Record
from slipway_server.json_answers import error_body
from slipway_server.memory import Budget, Claim, Full
from slipway_server.rest_routes import Reply, Routes
from slipway_server.tls import Tls

MOST_CONNECTIONS = 1024
IDLE_SECONDS = 30.0  # without a byte from the client, between requests or in one
HANDSHAKE_SECONDS = 10.0  # of TLS, before the connection counts as one
HEAD_SECONDS = 30.0  # for a whole request head: a byte now and then does not hold a connection
BODY_SECONDS = 300.0
LINGER_SECONDS = 2.0
READ_AHEAD = 16 * 1024  # bytes of a connection; twice as many may be held for it before they are counted


class _HttpError(Exception):
    """A request that is refused before any API sees it; the connection is closed after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.reply = Reply(status, error_body(message))


class RestServer:
    """The REST port. `start`, then `stop`; once each."""

    def __init__(
        self,
        routes: Routes,
        port: int,
        budget: Budget,
        largest: int,
        *,
        tls: Tls | None = None,
        tell: bool = False,
        shared: bool = False,
    ) -> None:
        """largest: bytes of a request body at most. tell: of each request in the log.

        shared: the port is several processes'.
        """
        self._shared = shared
        self._routes = routes
        self._port = port
        self._budget = budget
        self._largest = largest
        self._tls = tls
        self._tell = tell
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], bool] = {}  # whether a request is under way
        self._stopping = False

    async def start(self) -> None:
        """Listen on every address. Raises EnvironmentFault when the port cannot be had."""
        try:
            self._server = await asyncio.start_server(
                self._connection,
                None,
                self._port,
                limit=READ_AHEAD,
                reuse_port=self._shared or None,
                ssl=None if self._tls is None else self._tls.context(),
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_SECONDS,
            )
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on port {self._port}",
                tail=str(error),
                action="choose another --rest_api_port, or end what listens there",
            ) from error
        log.event("listening", entrypoint="REST", port=self._port, tls=self._tls is not None)

    async def stop(self, grace: float) -> None:
        """Accept no more, close idle connections, wait up to `grace` seconds for requests under way."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for task, busy in list(self._connections.items()):
            if not busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=grace)
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=1)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        if len(self._connections) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections[task] = False
        connection = h11.Connection(h11.SERVER)
        try:
            while not self._stopping and await self._request(task, connection, reader, writer):
                connection.start_next_cycle()
            await _linger(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError, h11.LocalProtocolError):
            pass  # the client left or was too slow, or the server stops: nobody reads an answer
        except Exception as error:  # noqa: BLE001  # one connection's fault must stay its own
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
        finally:
            del self._connections[task]
            writer.transport.abort() if self._stopping else writer.close()
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    async def _request(
        self,
        task: asyncio.Task[None],
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one request. Returns whether the connection can take another."""
        with self._budget.claim() as claim:
            return await self._claimed_request(task, connection, reader, writer, claim)

    async def _claimed_request(
        self,
        task: asyncio.Task[None],
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        claim: Claim,
    ) -> bool:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                request = await _next_event(connection, reader)
        except TimeoutError:
            return False  # no request has arrived yet
        except h11.RemoteProtocolError as error:
            request, reply = None, _bad_http(error)
        else:
            if not isinstance(request, h11.Request):
                return False
            self._connections[task] = True
            reply = await self._reply(request, connection, reader, writer, claim)
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        bodiless = request is not None and request.method == b"HEAD"
        _write(writer, self._written(connection, reply, bodiless))
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()
        self._connections[task] = False
        return {connection.our_state, connection.their_state} == {h11.DONE}

    async def _reply(
        self,
        request: h11.Request,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        claim: Claim,
    ) -> Reply:
        if not self._tell:
            return await self._answer(request, connection, reader, writer, claim)
        target = request.target.decode("ascii")
        record = Record("REST", f"{request.method.decode('ascii')} {target}", _peer(writer))
        with access_log.told(record):
            reply = await self._answer(request, connection, reader, writer, claim)
            record.code, record.bytes_out = reply.status, len(reply.body)
            return reply

    async def _answer(
        self,
        request: h11.Request,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        claim: Claim,
    ) -> Reply:
        refusal = self._routes.refusal(request)
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(BODY_SECONDS):
                if connection.they_are_waiting_for_100_continue:
                    _write(writer, connection.send(h11.InformationalResponse(status_code=100, headers=[])))
                body = await self._body(connection, reader, claim)
        except _HttpError as error:
            return error.reply
        except TimeoutError:
            return Reply(408, error_body("the request body did not arrive in time"))
        except h11.RemoteProtocolError as error:
            return _bad_http(error)
        access_log.arrived(len(body))
        return await self._routes.answer(request, body, claim)

    async def _body(self, connection: h11.Connection, reader: asyncio.StreamReader, claim: Claim) -> bytes:
        """A request's body, claimed as it comes: twice, for it is in two places for a moment."""
        body = bytearray()
        pieces = 0
        while isinstance(event := await _next_event(connection, reader), h11.Data):
            if len(body) + len(event.data) > self._largest:
                raise _HttpError(
                    413, f"the request body is larger than {self._largest} bytes (--rest_body_limit)"
                )
            try:
                claim.grow(2 * len(event.data))
            except Full as error:
                raise _HttpError(503, error.message) from error
            body += event.data
            pieces += 1
            if pieces % 256 == 0:  # one read can hold thousands of tiny chunks; others wait meanwhile
                await asyncio.sleep(0)
        return bytes(body)

    def _written(self, connection: h11.Connection, reply: Reply, bodiless: bool) -> bytes:
        """An answer's bytes.

        bodiless: answer a HEAD request, with the headers of a body and without the body.
        """
        headers = [
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            ("Date", _date(int(time.time()))),
            *reply.headers,
        ]
        unread = connection.their_state in (h11.SEND_BODY, h11.ERROR)  # what is left of the request
        if reply.close or self._stopping or unread:
            headers.append(("Connection", "close"))
        head = h11.Response(status_code=reply.status, headers=headers, reason=_reason(reply.status))
        out = connection.send(head) or b""
        if not bodiless:
            out += connection.send(h11.Data(data=reply.body)) or b""
        return out + (connection.send(h11.EndOfMessage()) or b"")


def _bad_http(error: h11.RemoteProtocolError) -> Reply:
    return Reply(error.error_status_hint, error_body(f"bad HTTP request: {error}"))


def _peer(writer: asyncio.StreamWriter) -> str:
    """The client's address, as gRPC writes one."""
    address = writer.get_extra_info("peername")
    return f"ipv{6 if ':' in address[0] else 4}:{address[0]}:{address[1]}" if address else ""


def _reason(status: int) -> bytes:
    """The phrase of the status line.

    Python does not know 499; libevent calls every such code Client Error.
    """
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Client Error"


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _write(writer: asyncio.StreamWriter, data: bytes | None) -> None:
    """Write, or raise ConnectionResetError if the client is gone; uvloop would report a fault of ours."""
    if writer.transport.is_closing():
        raise ConnectionResetError
    writer.write(data or b"")


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the client read its answer: closing on unread bytes would reset the connection under it."""
    if writer.transport.is_closing():
        return
    if writer.can_write_eof():  # not where TLS is
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(64 * 1024):
                pass


async def _next_event(connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        async with asyncio.timeout(IDLE_SECONDS):
            connection.receive_data(await reader.read(64 * 1024))
    return event
