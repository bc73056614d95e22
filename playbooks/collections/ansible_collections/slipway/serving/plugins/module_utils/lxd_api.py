"""LXD's own API, asked over the socket of this host."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

# The snap's first: a host that moved from the package to it may have both
SOCKETS = ("/var/snap/lxd/common/lxd/unix.socket", "/var/lib/lxd/unix.socket")
WAIT_SECONDS = 60
DONE_SECONDS = 600  # an image may have to be fetched


class LxdError(Exception):
    """What LXD says when it refuses or fails. code: that of HTTP, 0 where it did not answer."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("lxd", timeout=WAIT_SECONDS + 10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Lxd:
    """The LXD of this host. Raises LxdError where there is none."""

    def __init__(self, path: str = "") -> None:
        self.path = path or next((name for name in SOCKETS if Path(name).exists()), "")
        if not self.path:
            raise LxdError(f"LXD has no socket on this host; looked for {' and '.join(SOCKETS)}")

    def ask(self, method: str, path: str, body: Any = None, *, query: dict[str, str] | None = None) -> Any:
        """The metadata of what LXD answers. body: bytes as they are, else sent as JSON.

        What LXD does in the background is waited for. Raises LxdError, with LXD's own words if there are any.
        """
        answer = self._send(method, f"/1.0{path}" + (f"?{urlencode(query)}" if query else ""), body)
        if answer.get("type") != "async":
            return answer.get("metadata")
        end = time.monotonic() + DONE_SECONDS
        waited: dict[str, Any] = {"status": "Running"}
        while waited["status"] in ("Pending", "Running") and time.monotonic() < end:
            asked = f"{answer['operation']}/wait?timeout={WAIT_SECONDS}"
            waited = self._send("GET", asked, None)["metadata"]
        if waited["status"] != "Success":
            raise LxdError(waited.get("err") or f"{method} {path}: {waited['status']}", 500)
        return waited.get("metadata")

    def all(self, path: str, **query: str) -> list[dict[str, Any]]:
        """What a collection holds, whole."""
        return self.ask("GET", path, query={"recursion": "1", **query}) or []

    def text(self, path: str) -> str:
        """A file that LXD keeps, as it is."""
        return self._talk("GET", f"/1.0{path}", None).decode(errors="replace")

    def _send(self, method: str, path: str, body: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._talk(method, path, body))
        except ValueError as error:
            raise LxdError(f"{self.path}: {method} {path}: no answer of LXD's") from error
        if answer.get("type") == "error":
            raise LxdError(f"{method} {path}: {answer.get('error')}", int(answer.get("error_code", 0)))
        return answer

    def _talk(self, method: str, path: str, body: Any) -> bytes:
        raw = isinstance(body, bytes)
        data = body if raw or body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/octet-stream" if raw else "application/json"}
        connection = _Connection(self.path)
        try:
            connection.request(method, path, data, headers)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise LxdError(f"{self.path}: {method} {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()


def named(path: str, name: str) -> str:
    """The path of one member of a collection."""
    return f"{path}/{quote(name, safe='')}"
