"""OpenTelemetry traces of requests: off, and then nothing of it is imported, unless they are asked for.

A request is a span of the kind SERVER, a child of the caller's (W3C traceparent, in gRPC's metadata or an
HTTP header). In it are `queue`, the time it waited for its batch, and `run`, that of TensorFlow. Where spans
go, of which requests and under which name is told by OpenTelemetry's own variables.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from slipway_client.errors import EnvironmentFault, UsageError

from slipway_server import __version__
from slipway_server.codes import Code, StatusError
from slipway_server.steps import Times

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
# Of gRPC's codes those that OpenTelemetry has a server call errors; the others are the caller's.
_SERVER_FAULTS = {
    *(Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE),
    Code.DATA_LOSS,
}

_Handler = Callable[[Any, Any], Awaitable[bytes]]


def wanted(flag: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether traces are asked for. Raises UsageError for what OpenTelemetry's variables ask in vain."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return False
    asked = flag or bool(exporter) or any(environment.get(name) for name in _ENDPOINTS)
    if asked and exporter not in ("", "otlp"):
        raise UsageError(f"OTEL_TRACES_EXPORTER={exporter}: expected otlp or none")
    protocol = next((value for name in _PROTOCOLS if (value := environment.get(name))), "grpc")
    if asked and protocol != "grpc":
        raise UsageError(f"{' or '.join(_PROTOCOLS)} is {protocol}: expected grpc")
    return asked


class Tracing:
    """Makes spans, of one provider."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._api = trace
        self._provider = provider
        self._tracer = provider.get_tracer("slipway_server")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, name: str, headers: Iterable[tuple[str, Any]], **attributes: Any) -> Iterator[Any]:
        """The span of a request, current in the block; a StatusError that leaves it sets its status.

        headers: of the request, names in lower case; the trace they name is gone on with.
        """
        api = self._api
        carrier = {key: value for key, value in headers if key in ("traceparent", "tracestate")}
        with self._tracer.start_as_current_span(
            name,
            context=self._propagator.extract(carrier),
            kind=api.SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except StatusError as error:
                span.set_attribute("error.type", error.code.name)
                if error.code in _SERVER_FAULTS:
                    span.set_status(api.StatusCode.ERROR, error.message)
                raise
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(api.StatusCode.ERROR)
                raise

    def parts(self, times: Times) -> None:
        """Spans in the current request's."""
        since = time.time_ns() - int(time.perf_counter() * 1e9)
        for name, begun, ended in times:
            span = self._tracer.start_span(name, start_time=since + int(begun * 1e9))
            span.end(since + int(ended * 1e9))

    def about(self, model: str, number: int, signature: str) -> None:
        """Who answers the current request."""
        self._api.get_current_span().set_attributes(
            {"slipway.model": model, "slipway.version": number, "slipway.signature": signature}
        )

    def traced(self, service: str, method: str, handler: _Handler) -> _Handler:
        """A gRPC handler, each call of it in a span."""

        async def tracing(request: Any, context: Any) -> bytes:
            attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
            headers = context.invocation_metadata() or ()
            with self.request(f"{service}/{method}", headers, **attributes) as span:
                try:
                    answer = await handler(request, context)
                except StatusError as error:
                    span.set_attribute("rpc.grpc.status_code", int(error.code))
                    raise
                span.set_attribute("rpc.grpc.status_code", 0)
                return answer

        return tracing

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def otlp() -> Tracing:
    """Traces by OTLP over gRPC. Raises EnvironmentFault when the packages for it are not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise EnvironmentFault(
            "traces are asked for, and OpenTelemetry is not installed",
            tail=str(error),
            action="install slipway-model-server[tracing], or leave out --enable_tracing and OTEL_ variables",
        ) from error
    resource = Resource.create({"service.version": __version__})
    if "OTEL_SERVICE_NAME" not in os.environ:
        resource = resource.merge(Resource({"service.name": "slipway-model-server"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
