"""REST: the routes of TensorFlow Serving's HTTP API, and the metrics, over asyncio and h11.

h11 is an HTTP/1.1 protocol engine without dependencies and without I/O: it parses and checks, and
this file owns every read, so that each wait has a limit and the bytes held are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import h11

from infra.core.errors import EnvironmentFault
from infra.model_server import log, proto_json, rest_json
from infra.model_server.config import Monitoring
from infra.model_server.servable import DEFAULT_SIGNATURE, Servable
from infra.model_server.service import Api, Service
from infra.model_server.status import Code, StatusError, invalid
from infra.predict import stubs

stubs.load()
from tensorflow_serving.apis import (  # noqa: E402  # needs the bare namespace
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

LARGEST_BODY = 64 * 1024 * 1024
MOST_BUFFERED = 4 * LARGEST_BODY  # over all connections
MOST_CONNECTIONS = 1024
IDLE_SECONDS = 30.0  # without a byte from the client, between requests or in one
HEAD_SECONDS = 30.0  # for a whole request head: a byte now and then does not hold a connection
BODY_SECONDS = 300.0
LINGER_SECONDS = 2.0
TOO_MUCH_HELD = "the server holds too many request bodies already"

# What upstream's evhttp_server.cc:114 allows; anything else is answered 501.
_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")  # before the path of a target a proxy sends
# model_servers/http_rest_api_util.cc:31, kPredictionApiGegex and kModelStatusApiRegex
_PREDICT_PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.IGNORECASE
)
_MODEL_PATH = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE
)
# model_servers/http_server.cc, ToHTTPStatusCode
HTTP_STATUS: Mapping[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "application/json"
    close: bool = False


class _HttpError(Exception):
    """A request that is refused before any API sees it; the connection is closed after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.reply = Reply(status, rest_json.error_body(message))


class RestServer:
    """The REST port. `start`, then `stop`; once each."""

    def __init__(self, service: Service, monitoring: Monitoring, port: int) -> None:
        self._service = service
        self._monitoring = monitoring
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], bool] = {}  # whether a request is under way
        self._buffered = 0
        self._stopping = False

    async def start(self) -> None:
        """Listen on every address. Raises EnvironmentFault when the port cannot be had."""
        try:
            self._server = await asyncio.start_server(self._connection, None, self._port, limit=64 * 1024)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on port {self._port}",
                tail=str(error),
                action="choose another --rest_api_port, or end what listens there",
            ) from error
        log.event("listening", entrypoint="REST", port=self._port)

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
        """One request and its answer; whether the connection can take another."""
        held = 0
        bodiless = False
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                request = await _next_event(connection, reader)
            if not isinstance(request, h11.Request):
                return False
            bodiless = request.method == b"HEAD"
            self._connections[task] = True
            body = bytearray()
            pieces = 0
            async with asyncio.timeout(BODY_SECONDS):
                if connection.they_are_waiting_for_100_continue:
                    _write(writer, connection.send(h11.InformationalResponse(status_code=100, headers=[])))
                while isinstance(event := await _next_event(connection, reader), h11.Data):
                    held += len(event.data)
                    self._buffered += len(event.data)
                    if held > LARGEST_BODY:
                        raise _HttpError(413, f"the request body is larger than {LARGEST_BODY} bytes")
                    if self._buffered > MOST_BUFFERED:
                        raise _HttpError(429, TOO_MUCH_HELD)
                    body += event.data
                    pieces += 1
                    if pieces % 256 == 0:  # one read can hold thousands of tiny chunks; others wait meanwhile
                        await asyncio.sleep(0)
            reply = await self._answer(request, bytes(body))
        except _HttpError as error:
            reply = error.reply
        except TimeoutError:
            if connection.our_state is not h11.SEND_RESPONSE:
                return False  # nothing was asked yet
            reply = Reply(408, rest_json.error_body("the request body did not arrive in time"))
        except h11.RemoteProtocolError as error:
            reply = Reply(error.error_status_hint, rest_json.error_body(f"bad HTTP request: {error}"))
        finally:
            self._buffered -= held
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        _write(writer, self._written(connection, reply, bodiless))
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()
        self._connections[task] = False
        return {connection.our_state, connection.their_state} == {h11.DONE}

    def _written(self, connection: h11.Connection, reply: Reply, bodiless: bool) -> bytes:
        """An answer's bytes; bodiless: to a HEAD, which is told of a body it does not get."""
        headers = [
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            ("Date", _date(int(time.time()))),
        ]
        unread = connection.their_state in (h11.SEND_BODY, h11.ERROR)  # what is left of the request
        if reply.close or self._stopping or unread:
            headers.append(("Connection", "close"))
        head = h11.Response(status_code=reply.status, headers=headers, reason=_reason(reply.status))
        out = connection.send(head) or b""
        if not bodiless:
            out += connection.send(h11.Data(data=reply.body)) or b""
        return out + (connection.send(h11.EndOfMessage()) or b"")

    async def _answer(self, request: h11.Request, body: bytes) -> Reply:
        """Dispatch as upstream's evhttp_server.cc:129 does: by path, whatever the method."""
        method = request.method.decode("ascii")
        target = without_origin(request.target.decode("ascii"))
        path = re.split("[?#]", target, maxsplit=1)[0]
        if method not in _METHODS:
            return _page(501)
        if self._monitoring.enabled and path == self._monitoring.path:
            return self._metrics(target)
        if not target.lower().startswith("/v1/"):
            return _page(404)
        return _preflight(request) if method == "OPTIONS" else await self._api(method, target, request, body)

    async def _api(self, method: str, target: str, request: h11.Request, body: bytes) -> Reply:
        try:
            return Reply(200, await self._route(method, target, request, body))
        except StatusError as error:
            return Reply(HTTP_STATUS[error.code], rest_json.error_body(error.message))
        except Exception as error:  # noqa: BLE001  # the server must outlive any one request
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
            return Reply(500, rest_json.error_body("internal error; the server's log has it"))

    def _metrics(self, target: str) -> Reply:
        """model_servers/http_server.cc:89, ProcessPrometheusRequest."""
        if target != self._monitoring.path:
            text = f"Unexpected path: {target}. Should be {self._monitoring.path}"
            return Reply(400, text.encode(), "text/plain")
        return Reply(200, self._service.metrics.text().encode(), "text/plain")

    async def _route(self, method: str, target: str, request: h11.Request, body: bytes) -> bytes:
        """The API behind a path with its query: upstream's patterns are held against both together.

        Counted under the model's name whatever comes of it, the API as it stands in the path
        (model_servers/http_server.cc:195).
        """
        malformed = invalid(f"Malformed request: {method} {target}")
        pattern = {"POST": _PREDICT_PATH, "GET": _MODEL_PATH}.get(method)
        match = pattern.fullmatch(target) if pattern else None
        if match is None:
            raise malformed
        verb = match[4] if method == "POST" else ""

        async def answer() -> bytes:
            spec = _spec(*match.groups()[:3])
            if method == "GET":
                if not spec.name:
                    raise invalid("Missing model name in request.")
                # The path's case does not matter, that of its last word does, in upstream too.
                return self._metadata(spec) if match[4] == "metadata" else self._status(spec)
            if verb not in _APIS:
                raise malformed
            if not _is_gzip(request):
                return await self._infer(_APIS[verb], spec, body)
            plain = await asyncio.to_thread(_unpacked, body)
            with self._holding(len(plain)):
                return await self._infer(_APIS[verb], spec, plain)

        return await self._service.counted(verb, "REST", unquote(match[1] or ""), answer())

    @contextlib.contextmanager
    def _holding(self, size: int) -> Iterator[None]:
        """Count bytes that are held until the block ends. Raises StatusError when there are too many."""
        if self._buffered + size > MOST_BUFFERED:
            raise StatusError(Code.RESOURCE_EXHAUSTED, TOO_MUCH_HELD)
        self._buffered += size
        try:
            yield
        finally:
            self._buffered -= size

    async def _infer(self, api: Api, spec: Any, body: bytes) -> bytes:
        if len(body) > 64 * 1024:  # milliseconds of parsing, which the event loop has better uses for
            given = await asyncio.to_thread(_READ[api], body, spec)
        else:
            given = _READ[api](body, spec)

        def work(servable: Servable) -> bytes:
            return _WORK[api](servable, spec, given)

        return await self._service.infer(api, spec, len(body), work)

    def _status(self, spec: Any) -> bytes:
        response = self._service.model_status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return proto_json.text(response).encode()

    def _metadata(self, spec: Any) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        response = self._service.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        # Joined as in model_servers/http_rest_api_util.cc:193
        model_spec = proto_json.text(response.model_spec, proto_names=True)
        definitions = proto_json.text(signatures, proto_names=True)
        return (
            f'{{\n"model_spec":{model_spec},\n"metadata": {{"signature_def": {definitions}}}\n}}\n'.encode()
        )


def _read_predict(body: bytes, spec: Any) -> dict[str, Any]:
    document = rest_json.parse(body)
    spec.signature_name = rest_json.signature_name(document)
    return document


def _read_examples(body: bytes, spec: Any) -> Any:
    return rest_json.example_input(_read_predict(body, spec))


def _predict(servable: Servable, spec: Any, document: dict[str, Any]) -> bytes:
    name = spec.signature_name or DEFAULT_SIGNATURE
    try:
        signature = servable.predict_signature(name)
    except StatusError as error:
        raise invalid(f'Serving signature name: "{name}" not found in signature def') from error
    inputs, form = rest_json.predict_inputs(document, signature.definition.inputs)
    return rest_json.predictions(servable.compute(signature, inputs), form)


def _classify(servable: Servable, spec: Any, given: Any) -> bytes:
    request = classification_pb2.ClassificationRequest(model_spec=spec, input=given)
    return rest_json.classifications(servable.classify(request).result)


def _regress(servable: Servable, spec: Any, given: Any) -> bytes:
    request = regression_pb2.RegressionRequest(model_spec=spec, input=given)
    return rest_json.regressions(servable.regress(request).result)


_APIS: Mapping[str, Api] = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}
# What is read from the body before a model is looked for, and what is done with one.
_READ = {"Predict": _read_predict, "Classify": _read_examples, "Regress": _read_examples}
_WORK = {"Predict": _predict, "Classify": _classify, "Regress": _regress}


def _preflight(request: h11.Request) -> Reply:
    """OPTIONS, as upstream without its CORS flag answers it (model_servers/http_server.cc:170).

    Its refusal comes without a body there; this one says why.
    """
    if re.search(rb"https?://", _header(request, b"origin")):
        return Reply(200, b"", "text/html; charset=ISO-8859-1")
    return Reply(400, rest_json.error_body("Origin header is missing in CORS preflight"))


def _page(status: int) -> Reply:
    """libevent's answer where nobody answers (http.c, evhttp_send_error)."""
    phrase = HTTPStatus(status).phrase
    page = (
        f"<HTML><HEAD>\n<TITLE>{status} {phrase}</TITLE>\n</HEAD><BODY>\n<H1>{phrase}</H1>\n</BODY></HTML>\n"
    )
    return Reply(status, page.encode(), "text/html", close=True)


def _reason(status: int) -> bytes:
    """The status line's phrase; 499, which nobody else knows, gets libevent's word for all of its kind."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Client Error"


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _spec(name: str | None, version: str | None, label: str | None) -> Any:
    spec = model_pb2.ModelSpec(name=unquote(name or ""))
    if version is not None:
        digits = version.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(digits)
    if label is not None:
        spec.version_label = unquote(label)
    return spec


def without_origin(target: str) -> str:
    """Path and query of a request's target; a proxy sends scheme and host before them."""
    origin = _ORIGIN.match(target)
    return target[origin.end() :] if origin else target


def _header(request: h11.Request, wanted: bytes) -> bytes:
    """The first header of this name, in lower case; empty without one."""
    return next((value for name, value in request.headers if name == wanted), b"")


def _is_gzip(request: h11.Request) -> bool:
    """evhttp_request.cc:261, NeedUncompressGzipContent: any other encoding is passed over."""
    return b"gzip" in _header(request, b"content-encoding")


def _unpacked(body: bytes) -> bytes:
    """A gzip body's content; at most LARGEST_BODY bytes come out of a small one."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, LARGEST_BODY)
    except zlib.error as error:
        raise invalid(f"the body is not gzip data: {error}") from error
    if unpacker.unconsumed_tail:
        raise invalid(f"the request body is larger than {LARGEST_BODY} bytes when unpacked")
    if not unpacker.eof:
        raise invalid("the body is not gzip data: it ends too early")
    return plain


def _write(writer: asyncio.StreamWriter, data: bytes | None) -> None:
    """Raises ConnectionResetError when the client is gone: uvloop takes such a write for our mistake."""
    if writer.transport.is_closing():
        raise ConnectionResetError
    writer.write(data or b"")


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the client read its answer: closing on unread bytes would reset the connection under it."""
    if writer.transport.is_closing():
        return
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
