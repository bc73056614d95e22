"""Whether traces are asked for: by the flag, or by OpenTelemetry's variables."""

from __future__ import annotations

import pytest
from slipway_client.errors import UsageError
from slipway_server.tracing import wanted


@pytest.mark.parametrize(
    ("flag", "variables", "asked"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, True),
        (False, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, True),
        (False, {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (True, {"OTEL_TRACES_EXPORTER": "none"}, False),
        (True, {"OTEL_SDK_DISABLED": "true"}, False),
        (False, {"OTEL_SERVICE_NAME": "mine"}, False),
    ],
)
def test_wanted(flag: bool, variables: dict[str, str], asked: bool) -> None:
    assert wanted(flag, variables) is asked


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin: expected otlp or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "is http/protobuf: expected grpc"),
    ],
)
def test_what_is_not_done_is_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        wanted(True, variables)
