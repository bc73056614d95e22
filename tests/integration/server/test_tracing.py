"""Traces, sent by OTLP to a receiver of this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from .conftest import PREDICTION, Made, Server, StartServer, free_port, predict_request
from .protos import floats

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
HALVES = predict_request("shapes", "half_plus_three", x=floats([2], [1, 2]))


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.service = ""

    def Export(self, request: Any, context: Any) -> Any:  # the service's own name
        for resource in request.resource_spans:
            self.service = next(
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            )
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait_for(self, count: int) -> list[Any]:
        deadline = time.monotonic() + 60
        while len(self.spans) < count:
            assert time.monotonic() < deadline, self.spans
            time.sleep(0.02)
        found, self.spans = self.spans, []
        return found


@pytest.fixture(scope="module")
def receiver() -> Iterator[tuple[Receiver, int]]:
    receiver, port = Receiver(), free_port()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield receiver, port
    server.stop(0)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def traced(
    made: Made, receiver: tuple[Receiver, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Receiver]]:
    """A server that batches, and where its spans go."""
    found, port = receiver
    folder = tmp_path_factory.mktemp("traced")
    (folder / "batching.config").write_text("batch_timeout_micros { value: 1000 }")
    starter = StartServer(folder)
    with environment(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_BSP_SCHEDULE_DELAY="50"):
        server = starter(
            f"--model_base_path={made.models}/shapes",
            "--model_name=shapes",
            "--enable_batching",
            f"--batching_parameters_file={folder}/batching.config",
        )
    try:
        yield server, found
        assert not server.events("fault"), server.events("fault")
    finally:
        starter.end()


def predict(server: Server, request: Any = HALVES, headers: dict[str, str] = PARENT) -> None:
    call = server.channel.unary_unary(f"/{PREDICTION}/Predict")
    call(request.SerializeToString(), metadata=tuple(headers.items()), timeout=60)


def told(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_grpc_request_is_a_span_of_its_callers_trace(traced: tuple[Server, Receiver]) -> None:
    server, receiver = traced
    predict(server)
    spans = {span.name: span for span in receiver.wait_for(3)}
    request = spans.pop(f"{PREDICTION}/Predict")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert request.kind == request.SPAN_KIND_SERVER
    assert told(request) == {
        "rpc.system": "grpc",
        "rpc.service": PREDICTION,
        "rpc.method": "Predict",
        "rpc.grpc.status_code": 0,
        "slipway.model": "shapes",
        "slipway.version": 1,
        "slipway.signature": "half_plus_three",
    }
    assert sorted(spans) == ["queue", "run"]
    assert {(span.trace_id, span.parent_span_id) for span in spans.values()} == {
        (request.trace_id, request.span_id)
    }
    queue, run = spans["queue"], spans["run"]
    assert queue.start_time_unix_nano <= queue.end_time_unix_nano == run.start_time_unix_nano
    assert run.start_time_unix_nano <= run.end_time_unix_nano
    assert receiver.service == "slipway-model-server"


def test_a_rest_request_is_a_span_too(traced: tuple[Server, Receiver]) -> None:
    server, receiver = traced
    body = {"signature_name": "half_plus_three", "inputs": {"x": [1.0]}}
    assert server.http("/v1/models/shapes:predict", body, **PARENT)[0] == 200
    spans = {span.name: span for span in receiver.wait_for(3)}
    request = spans["POST /v1/models/shapes:predict"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert told(request)["http.response.status_code"] == 200
    assert spans["run"].parent_span_id == request.span_id


def test_a_refusal_has_its_code_and_is_the_callers_fault(traced: tuple[Server, Receiver]) -> None:
    server, receiver = traced
    with pytest.raises(grpc.RpcError):
        predict(server, predict_request("none"))
    assert server.http("/v1/models/none:predict", {"instances": [1]}, **PARENT)[0] == 404
    grpc_span, rest_span = receiver.wait_for(2)
    assert told(grpc_span)["error.type"] == told(rest_span)["error.type"] == "NOT_FOUND"
    assert told(grpc_span)["rpc.grpc.status_code"] == 5
    assert told(rest_span)["http.response.status_code"] == 404
    assert grpc_span.status.code == rest_span.status.code == 0


def test_a_request_without_a_trace_begins_one_and_what_the_caller_leaves_out_is_left_out(
    traced: tuple[Server, Receiver],
) -> None:
    server, receiver = traced
    predict(server, headers=UNSAMPLED)
    predict(server, headers={})
    spans = receiver.wait_for(3)
    assert {span.trace_id.hex() for span in spans} != {TRACE}
    assert len({span.trace_id for span in spans}) == 1


def test_without_batching_there_is_the_run(
    made: Made, receiver: tuple[Receiver, int], start: StartServer
) -> None:
    found, port = receiver
    with environment(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_SERVICE_NAME="mine"):
        server = start(f"--model_base_path={made.models}/shapes", "--model_name=shapes", "--enable_tracing")
    predict(server)
    assert server.stop() == 0  # what is left is sent
    assert sorted(span.name for span in found.wait_for(2)) == ["run", f"{PREDICTION}/Predict"]
    assert found.service == "mine"


def test_without_its_packages_traces_are_refused_in_words(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    hidden = "import sys; sys.modules['opentelemetry'] = None"
    plain = start(f"--model_base_path={made.models}/shapes", before=hidden)
    assert plain.stop() == 0
    asked = start(
        f"--model_base_path={made.models}/shapes", "--enable_tracing", before=hidden, wait="not_started"
    )
    assert asked.process.wait(60) == 3
    assert "install slipway-model-server[tracing]" in asked.events("not_started")[0]["error"]
