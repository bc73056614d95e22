"""Servers that keep a client waiting: it gives up at its deadline, by the real clock."""

from __future__ import annotations

import socket
import threading

import pytest
from slipway_client.connect import connect
from slipway_client.errors import NotReachable, TimedOut

from tests.standins.model_server import Behaviour, StandIn, fixed_requests

TRANSPORTS = ("grpc", "rest")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_answer_in_time(transport):
    with (
        StandIn(Behaviour(hang=threading.Event())) as server,
        connect(server.address if transport == "grpc" else server.rest, transport, timeout=0.3) as client,
        pytest.raises(TimedOut, match=r"0\.3 s"),
    ):
        client.prepare("mnist", fixed_requests(1)[0])()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_port_that_accepts_and_says_nothing(transport):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with connect(address, transport, timeout=0.5) as client, pytest.raises((TimedOut, NotReachable)):
            client.status("mnist")
