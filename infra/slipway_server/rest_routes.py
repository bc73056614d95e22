"""What TensorFlow Serving's HTTP API has behind each path, and the metrics: a whole request to a reply."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import h11
from slipway_client import messages

from slipway_server import json_answers, json_limits, json_requests, log, proto_json
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.config import Monitoring
from slipway_server.examples import Examples, of_input
from slipway_server.json_requests import DEFAULT_SIGNATURE, Form
from slipway_server.memory import Claim, Full
from slipway_server.reader import Reader
from slipway_server.servable import Servable
from slipway_server.service import Api, Service
from slipway_server.session_tensors import Hold
from slipway_server.steps import Steps
from slipway_server.tokens import Tokens

SMALL_BODY = 64 * 1024  # is read here, if its values are few; a larger one by the process that reads
_OBJECTS = 40  # bytes of objects for each byte of a small body, and of what TensorFlow makes of them
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


_CORS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", "POST, GET"))


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "application/json"
    close: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Predicted:
    """What a predict body says: of TensorInfo by input name, TensorProtos by name and the answer's form."""

    inputs: Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], Form]]


_Given = _Predicted | Examples


class Routes:
    """Answers requests that have arrived whole.

    reader: reads the bodies that are not small.
    """

    def __init__(
        self,
        service: Service,
        monitoring: Monitoring,
        reader: Reader,
        tokens: Tokens | None = None,
        cors: bool = False,
    ) -> None:
        """tokens: one of which a request must have; None for everybody. cors: whether browsers may read."""
        self._service = service
        self._monitoring = monitoring
        self._reader = reader
        self._tokens = tokens
        # model_servers/http_rest_api_util.cc:40, AddCORSHeaders, and the header that a token comes in
        allowed = "Content-Type" if tokens is None else "Content-Type, Authorization"
        self._cors = (*_CORS, ("Access-Control-Allow-Headers", allowed)) if cors else ()

    def refusal(self, request: h11.Request) -> Reply | None:
        """The answer to a request without one of the tokens; nothing of its body is read then.

        Open are the status of a model, which probes ask for, and what a browser asks before it sends a token.
        """
        if self._tokens is None or request.method == b"OPTIONS":
            return None
        target = without_origin(request.target.decode("ascii"))
        if request.method == b"GET" and (match := _MODEL_PATH.fullmatch(target)) and not match[4]:
            return None
        try:
            self._tokens.check(_header(request, b"authorization").decode("latin-1"))
        except StatusError as error:
            body = json_answers.error_body(error.message)
            return Reply(401, body, headers=(("WWW-Authenticate", "Bearer"), *self._cors))
        return None

    async def answer(self, request: h11.Request, body: bytes, claim: Claim) -> Reply:
        """Dispatch as upstream's evhttp_server.cc:129 does: by path, whatever the method.

        claim: grown by what the answer takes; it has the body already.
        """
        method = request.method.decode("ascii")
        target = without_origin(request.target.decode("ascii"))
        path = re.split("[?#]", target, maxsplit=1)[0]
        if method not in _METHODS:
            return _page(501)
        if self._monitoring.enabled and path == self._monitoring.path:
            return await self._metrics(target)
        if not target.lower().startswith("/v1/"):
            return _page(404)
        reply = (
            _preflight(request)
            if method == "OPTIONS"
            else await self._api(method, target, request, body, claim)
        )
        return replace(reply, headers=self._cors) if self._cors else reply

    async def _api(self, method: str, target: str, request: h11.Request, body: bytes, claim: Claim) -> Reply:
        try:
            return Reply(200, await self._traced(method, target, request, body, claim))
        except Full as error:
            return Reply(503, json_answers.error_body(error.message))
        except StatusError as error:
            return Reply(HTTP_STATUS[error.code], json_answers.error_body(error.message))
        except Exception as error:  # noqa: BLE001  # the server must outlive any one request
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
            return Reply(500, json_answers.error_body("internal error; the server's log has it"))

    async def _traced(
        self, method: str, target: str, request: h11.Request, body: bytes, claim: Claim
    ) -> bytes:
        """`_route`, in a span if there are traces."""
        tracing = self._service.tracing
        if tracing is None:
            return await self._route(method, target, request, body, claim)
        path = re.split("[?#]", target, maxsplit=1)[0]
        headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
        attributes = {"http.request.method": method, "url.path": path}
        with tracing.request(f"{method} {path}", headers, **attributes) as span:
            try:
                answer = await self._route(method, target, request, body, claim)
            except StatusError as error:
                span.set_attribute("http.response.status_code", HTTP_STATUS[error.code])
                raise
            span.set_attribute("http.response.status_code", 200)
            return answer

    async def _metrics(self, target: str) -> Reply:
        """model_servers/http_server.cc:89, ProcessPrometheusRequest."""
        if target != self._monitoring.path:
            text = f"Unexpected path: {target}. Should be {self._monitoring.path}"
            return Reply(400, text.encode(), "text/plain")
        try:
            text = await self._service.metrics_text()
        except StatusError as error:
            return Reply(HTTP_STATUS[error.code], error.message.encode(), "text/plain")
        return Reply(200, text.encode(), "text/plain")

    async def _route(
        self, method: str, target: str, request: h11.Request, body: bytes, claim: Claim
    ) -> bytes:
        """Answer by the API behind a path. Upstream matches its patterns with path and query together.

        The request is counted under the model's name even if it fails, and under the API as the path spells
        it (model_servers/http_server.cc:195).
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
                # Upstream too ignores the case of the path, but not of its last word.
                return self._metadata(spec) if match[4] == "metadata" else self._status(spec)
            if verb not in _APIS:
                raise malformed
            return await self._infer(_APIS[verb], spec, body, _is_gzip(request), claim)

        return await self._service.counted(verb, "REST", unquote(match[1] or ""), answer())

    async def _infer(self, api: Api, spec: Any, body: bytes, packed: bool, claim: Claim) -> bytes:
        given: _Given
        if packed or len(body) > SMALL_BODY or json_limits.values_in(body) > json_limits.FEW_VALUES:
            read = await self._reader.read(api, body, self._signatures(spec), packed, claim)
            spec.signature_name = read.request.model_spec.signature_name
            inputs = read.request.inputs
            if api == "Predict":
                given = _Predicted(lambda _: (inputs, read.form))
            else:
                given = Examples(read.examples, inputs["inputs"].SerializeToString())
        else:
            claim.grow(_OBJECTS * len(body))
            document = json_requests.parse(body)
            spec.signature_name = json_requests.signature_name(document)
            if api == "Predict":
                given = _Predicted(lambda infos: json_requests.predict_inputs(document, infos))
            else:
                given = of_input(json_requests.example_input(document))

        def steps(servable: Servable) -> Steps[bytes]:
            return _STEPS[api](servable, spec, given, claim.grow)

        return await self._service.answer(api, spec, len(body), steps)

    def _signatures(self, spec: Any) -> bytes:
        """The serialized SignatureDefMap of the model asked for; empty if there is none."""
        try:
            with self._service.models.use(spec) as servable:
                found: bytes = servable.signature_map().SerializeToString()
                return found
        except StatusError:
            return b""  # told once the body has been read, as for a small one

    def _status(self, spec: Any) -> bytes:
        response = self._service.model_status(messages.GetModelStatusRequest(model_spec=spec))
        return proto_json.text(response).encode()

    def _metadata(self, spec: Any) -> bytes:
        request = messages.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._service.metadata(request)
        signatures = messages.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        # Joined as in model_servers/http_rest_api_util.cc:193
        model_spec = proto_json.text(response.model_spec, proto_names=True)
        definitions = proto_json.text(signatures, proto_names=True)
        return (
            f'{{\n"model_spec":{model_spec},\n"metadata": {{"signature_def": {definitions}}}\n}}\n'.encode()
        )


def _predict(servable: Servable, spec: Any, given: Any, hold: Hold) -> Steps[bytes]:
    name = spec.signature_name or DEFAULT_SIGNATURE
    try:
        signature = servable.predict_signature(name)
    except StatusError as error:
        raise invalid(f'Serving signature name: "{name}" not found in signature def') from error
    inputs, form = given.inputs(signature.definition.inputs)
    results = yield from servable.compute(signature, inputs, (), hold)
    return json_answers.predictions(results, form, hold)


def _classify(servable: Servable, spec: Any, given: Any, hold: Hold) -> Steps[bytes]:
    return json_answers.classifications((yield from servable.classify(spec, given, hold)).result)


def _regress(servable: Servable, spec: Any, given: Any, hold: Hold) -> Steps[bytes]:
    return json_answers.regressions((yield from servable.regress(spec, given, hold)).result)


_APIS: Mapping[str, Api] = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}
_STEPS = {"Predict": _predict, "Classify": _classify, "Regress": _regress}


def _preflight(request: h11.Request) -> Reply:
    """OPTIONS, as upstream without its CORS flag answers it (model_servers/http_server.cc:170).

    Its refusal comes without a body there; this one says why.
    """
    if re.search(rb"https?://", _header(request, b"origin")):
        return Reply(200, b"", "text/html; charset=ISO-8859-1")
    return Reply(400, json_answers.error_body("Origin header is missing in CORS preflight"))


def _page(status: int) -> Reply:
    """libevent's answer where nobody answers (http.c, evhttp_send_error)."""
    phrase = HTTPStatus(status).phrase
    page = (
        f"<HTML><HEAD>\n<TITLE>{status} {phrase}</TITLE>\n</HEAD><BODY>\n<H1>{phrase}</H1>\n</BODY></HTML>\n"
    )
    return Reply(status, page.encode(), "text/html", close=True)


def _spec(name: str | None, version: str | None, label: str | None) -> Any:
    spec = messages.ModelSpec(name=unquote(name or ""))
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
    """The first header of this name, which is given in lower case; empty if there is none."""
    return next((value for name, value in request.headers if name == wanted), b"")


def _is_gzip(request: h11.Request) -> bool:
    """evhttp_request.cc:261, NeedUncompressGzipContent: any other encoding is ignored."""
    return b"gzip" in _header(request, b"content-encoding")
