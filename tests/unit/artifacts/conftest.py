"""A context in a temporary folder, and a stand-in for a release server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from slipway.artifacts import answers
from slipway.core.context import Context
from slipway.core.events import Event
from slipway.core.state import State


@dataclass(frozen=True)
class Lab:
    """A context whose events are kept."""

    ctx: Context
    events: list[Event]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    events: list[Event] = []
    ctx = Context(
        State(tmp_path / "state"), tmp_path / "run", tmp_path, cache=tmp_path / "cache", emit=events.append
    )
    return Lab(ctx, events)


@dataclass
class StandIn:
    """A stand-in HTTP server on loopback: it is told how to answer and remembers what was asked."""

    url: str
    content: bytes
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes sent before each connection is dropped
    status: list[int] = field(default_factory=list)  # answered instead, once each
    stall: int = 0  # so many answers: half of the file, then silence until the client hangs up
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range header
    headers: list[tuple[str, Message]] = field(default_factory=list)  # path and all of them


def _handler(told: Callable[[], StandIn]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            server = told()
            wanted = self.headers.get("Range", "")
            server.asked.append((self.path, wanted))
            server.headers.append((self.path, self.headers))
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.end_headers()
                return
            if server.status:
                self.send_error(server.status.pop(0))
                return
            data, start = server.content, 0
            if wanted and server.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            data = data[start:]
            if server.cut_after:
                self.wfile.write(data[: server.cut_after.pop(0)])
                self.close_connection = True
                return
            if server.stall:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                server.stall -= 1
                self.connection.recv(1)
                return
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what was asked is kept in `asked`."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about; nothing of it on the screen."""


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    told: list[StandIn] = []
    server = _Server(("127.0.0.1", 0), _handler(lambda: told[0]))
    told.append(StandIn(f"http://127.0.0.1:{server.server_address[1]}", b""))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield told[0]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test asks anew, and no proxy of this machine stands before the stand-in."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(answers, "_known", {})
