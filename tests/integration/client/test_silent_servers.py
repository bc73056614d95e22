"""Servers that keep a client waiting: it gives up at its deadline, by the real clock."""

from __future__ import annotations

import contextlib
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


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"]
)
def test_an_answer_that_never_ends_does_not_outlast_the_deadline(begin):
    gone = threading.Event()

    def drip(server):
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            connection.sendall(begin)
            for _ in range(2000):
                if gone.wait(0.02):
                    return
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        dripping = threading.Thread(target=drip, args=(server,))
        dripping.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with connect(address, "rest", timeout=0.5) as client, pytest.raises(TimedOut, match=r"0\.5 s"):
            client.status("mnist")
        assert dripping.is_alive()
        gone.set()
        dripping.join()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_port_that_accepts_and_says_nothing(transport):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with connect(address, transport, timeout=0.5) as client, pytest.raises((TimedOut, NotReachable)):
            client.status("mnist")
