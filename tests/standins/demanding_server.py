"""A stand-in on 127.0.0.1 for a mirror, a proxy and an index that each demand a login."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Demanding:
    """user and password: what it lets in. asked: (path or address, the login that came with it)."""

    user: str
    password: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def let_in(self) -> list[str]:
        """What was asked for with the right login."""
        return [path for path, login in self.asked if login == f"{self.user}:{self.password}"]

    @contextmanager
    def serving(self) -> Iterator[Demanding]:
        demanding = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                through = "://" in self.path  # as a proxy is asked
                header = self.headers.get("Proxy-Authorization" if through else "Authorization", "")
                login = base64.b64decode(header.partition(" ")[2]).decode(errors="replace")
                demanding.asked.append((self.path, login))
                if login != f"{demanding.user}:{demanding.password}":
                    self._answer(407 if through else 401, b"")
                elif (found := demanding.files.get(self.path)) is not None:
                    self._answer(200, found)
                else:
                    self._answer(404, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status in (401, 407):
                    name = "Proxy-Authenticate" if status == 407 else "WWW-Authenticate"
                    self.send_header(name, 'Basic realm="stand-in"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_words: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield self
            server.shutdown()
