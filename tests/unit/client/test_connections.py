"""Retries, balancing, compression, kept connections and deadlines, each seen from the server's side."""

from __future__ import annotations

import random
import socket
from http.client import HTTPException

import grpc
import numpy as np
import pytest
from slipway_client import grpc_channel, http_channel
from slipway_client.channel import Connection, Retries
from slipway_client.connect import Options, connect
from slipway_client.errors import NotReachable, RequestFailed, UsageError

from tests.standins.clock import Clock
from tests.standins.model_server import Behaviour, StandIn, fixed_requests, scores_of

TRANSPORTS = ("grpc", "rest")
ROW = np.arange(8, dtype=np.float32)[None] / 8
CLASSIFY = next(one for one in fixed_requests(1) if one.method == "classify")


def _client(server, transport, **options):
    address = server.address if transport == "grpc" else server.rest
    return connect(address, transport, timeout=60.0, **options)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_request_is_repeated_when_asked_for_and_not_otherwise(transport, monkeypatch):
    monkeypatch.setattr(http_channel, "time", Clock())
    behaviour = Behaviour(fail_with=grpc.StatusCode.UNAVAILABLE, fail_every=2)
    retries = Retries(attempts=2, first=0.01, most=0.01)
    with StandIn(behaviour) as server, _client(server, transport, retries=retries) as client:
        ask = client.prepare("mnist", CLASSIFY)
        for _ in range(3):
            ask()
        assert server.requests == 5  # the second and the fourth were refused
    with StandIn(behaviour) as server, _client(server, transport) as client:
        ask = client.prepare("mnist", CLASSIFY)
        ask()
        with pytest.raises(RequestFailed, match="UNAVAILABLE"):
            ask()
        assert server.requests == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_repeating_ends(transport, monkeypatch):
    monkeypatch.setattr(http_channel, "time", Clock())
    behaviour = Behaviour(fail_with=grpc.StatusCode.UNAVAILABLE)
    retries = Retries(attempts=3, first=0.01, most=0.01)
    with StandIn(behaviour) as server, _client(server, transport, retries=retries) as client:
        with pytest.raises(RequestFailed, match="UNAVAILABLE"):
            client.prepare("mnist", CLASSIFY)()
        assert server.requests == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_other_refusals_are_not_repeated(transport):
    behaviour = Behaviour(fail_with=grpc.StatusCode.INTERNAL)
    retries = Retries(statuses=("ABORTED",), first=0.01, most=0.01)
    with StandIn(behaviour) as server, _client(server, transport, retries=retries) as client:
        with pytest.raises(RequestFailed):
            client.prepare("mnist", CLASSIFY)()
        assert server.requests == 1


@pytest.mark.parametrize(
    "values", [{"attempts": 1}, {"attempts": 6}, {"first": 0}, {"first": 2.0, "most": 1.0}]
)
def test_retries_that_mean_nothing_are_refused(values):
    with pytest.raises(UsageError, match="retries: expected"):
        Retries(**values)


def test_waits_double_up_to_the_most(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda _low, _high: 1.0)
    retries = Retries(attempts=5, first=0.25, most=1.5)
    found = [retries.wait(attempt, "UNAVAILABLE") for attempt in range(1, 6)]
    assert found == [0.25, 0.5, 1.0, 1.5, None]
    assert retries.wait(1, "INTERNAL") is None


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("round_robin", [False, True])
def test_requests_are_spread_over_all_addresses_when_asked_for(transport, round_robin, monkeypatch):
    with StandIn() as one, StandIn() as two:
        ports = [(one.port, one.rest_port), (two.port, two.rest_port)]
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port, _ in ports)
        monkeypatch.setattr(grpc_channel._GrpcWire, "target", lambda _self: target)
        # As a name with two addresses; these differ by the port, for both are this machine's.
        monkeypatch.setattr(
            http_channel._Addresses, "_found", lambda _self: [("127.0.0.1", port) for _, port in ports]
        )
        with _client(one, transport, round_robin=round_robin) as client:
            ask = client.prepare("mnist", CLASSIFY)
            ask()
            _until(lambda: not round_robin or (one.requests and two.requests), ask)
            before = (one.requests, two.requests)
            for _ in range(10):
                ask()
        spread = sorted((one.requests - before[0], two.requests - before[1]))
        assert spread == ([5, 5] if round_robin else [0, 10])


def _until(seen, act):
    for _ in range(200):
        if seen():
            return
        act()


def test_an_address_that_is_gone_is_looked_up_again(monkeypatch):
    with StandIn() as one, socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        looks = [[("127.0.0.1", gone.getsockname()[1])], [("127.0.0.1", one.rest_port)]]
        monkeypatch.setattr(http_channel._Addresses, "_found", lambda _self: looks.pop(0))
        with _client(one, "rest", round_robin=True) as client:
            with pytest.raises(NotReachable):
                client.status("mnist")
            assert client.ready("mnist")
            assert looks == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_compressed_requests_are_answered(transport):
    with StandIn() as server, _client(server, transport, compression="gzip") as client:
        answer = client.predict("mnist", "predict_images", {"images": ROW})
        np.testing.assert_allclose(answer.outputs["scores"], scores_of(ROW), atol=1e-7)
        assert server.encodings == (["gzip"] if transport == "rest" else [])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_request_may_be_for_another_host_than_it_is_sent_to(transport):
    with StandIn() as server:
        with _client(server, transport, authority="mnist.example") as client:
            client.status("mnist")
        with _client(server, transport) as client:
            client.status("mnist")
        here = server.address if transport == "grpc" else server.rest
        assert server.hosts == ["mnist.example", here]


def test_one_connection_is_kept_for_requests_one_after_the_other():
    with StandIn() as server, _client(server, "rest", keep_alive=30.0) as client:
        for _ in range(5):
            client.status("mnist")
        assert len(server.connections) == 1


def test_what_gzip_data_is_not_is_told():
    for raw in (b"no gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"):
        with pytest.raises(HTTPException, match="gzip data"):
            http_channel._unpacked(raw)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"compression": "deflate"}])
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(UsageError):
        connect("localhost:1", "rest", **options)


def test_every_field_of_a_connection_is_an_option():
    fields = set(Connection.__dataclass_fields__) - {"server", "transport"}
    assert set(Options.__annotations__) == fields


def test_the_service_config_is_grpcs_own():
    both = grpc_channel.service_config(Retries(), round_robin=True)
    assert both["loadBalancingConfig"] == [{"round_robin": {}}]
    assert both["methodConfig"][0]["retryPolicy"]["maxAttempts"] == 3
    assert grpc_channel.service_config(None, round_robin=False) == {}
