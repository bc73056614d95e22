"""A stand-in for LXD: its API over a Unix socket, as far as slipway's modules ask it, and what it was told."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COLLECTIONS = ("networks", "storage-pools", "profiles", "instances", "images", "projects")


class Lxd:
    """State: collection to name to entry. told: every change, as (method, path, body)."""

    def __init__(self) -> None:
        self.config: dict[str, str] = {}
        self.state: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in COLLECTIONS}
        self.state["projects"]["default"] = {"name": "default"}
        self.state["profiles"]["default"] = {
            "name": "default",
            "description": "",
            "config": {},
            "devices": {},
        }
        self.told: list[tuple[str, str, Any]] = []
        self.refused = ""  # the path that fails
        self.listed: dict[str, dict[str, Any]] = {}  # project to what it has of its own
        self.keeps: set[str] = set()  # collections of which nothing can be changed
        self.returns: dict[str, int] = {}  # program to what it ends with in a container

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> dict[str, Any]:
        if method != "GET":
            given = body if body[:1] != b"{" else json.loads(body)
            self.told.append((method, path, given))
        if self.refused and path.startswith(self.refused) and method != "GET":
            return {"type": "error", "error": "it will not do", "error_code": 400}
        parts = [unquote(part) for part in path.strip("/").split("/")[1:]]
        if not parts:
            if method == "PATCH":
                self.config |= json.loads(body)["config"]
            return done({"config": self.config})
        if parts[0] == "operations":
            return done({"status": "Success", "metadata": json.loads(parts[1])})
        there = self.state[parts[0]]
        if len(parts) == 1:
            if method == "GET":
                (project,) = query.get("project", ["default"])
                return done(list(self.listed.get(project, {}).get(parts[0], there).values()))
            return self._make(parts[0], body)
        if parts[1] not in there:
            return {"type": "error", "error": f"{parts[1]} not found", "error_code": 404}
        if len(parts) > 2:
            return self._below(method, there[parts[1]], parts[2:], body)
        if method == "DELETE":
            del there[parts[1]]
            return begun({}) if parts[0] in ("instances", "images") else done(None)
        if method in ("PATCH", "PUT") and parts[0] not in self.keeps:
            change(there[parts[1]], json.loads(body), whole=method == "PUT")
        return done(there[parts[1]])

    def _make(self, kind: str, body: bytes) -> dict[str, Any]:
        if kind == "images":
            self.state[kind]["f00d"] = {"fingerprint": "f00d"}
            return begun({"fingerprint": "f00d"})
        entry: dict[str, Any] = {
            "description": "",
            "config": {},
            "devices": {},
            "status": "Stopped",
            "managed": True,
        }
        entry |= json.loads(body)
        for key, value in entry["config"].items():
            entry["config"][key] = "10.1.2.1/24" if value == "auto" else value
        self.state[kind][entry["name"]] = entry
        if kind == "instances":
            entry["expanded_devices"] = dict(self.state["profiles"]["default"]["devices"])
        return begun({}) if kind == "instances" else done(None)

    def _below(self, method: str, entry: dict[str, Any], parts: list[str], body: bytes) -> dict[str, Any]:
        if parts[0] == "leases":
            return done([{"address": "10.79.0.254"}])
        if parts[0] == "volumes":
            return done([])
        if parts[0] == "exec":
            words = json.loads(body)["command"]
            if words[:3] == ["ip", "address", "add"]:
                entry["address"] = words[3].partition("/")[0]
            return begun({"return": self.returns.get(words[0], 0), "output": {}})
        if method == "PUT":
            entry["status"] = "Running" if json.loads(body)["action"] == "start" else "Stopped"
            return begun({})
        inet = [{"family": "inet", "address": entry["address"]}] if "address" in entry else []
        return done({"status": entry["status"], "network": {"eth0": {"addresses": inet}}})


def done(metadata: Any) -> dict[str, Any]:
    return {"type": "sync", "metadata": metadata}


def begun(metadata: dict[str, Any]) -> dict[str, Any]:
    """Something in the background; what comes of it is in its name."""
    name = json.dumps(metadata).replace("/", "")
    return {"type": "async", "operation": f"/1.0/operations/{name}".replace(" ", "")}


def change(entry: dict[str, Any], asked: dict[str, Any], *, whole: bool) -> None:
    """As LXD does: PATCH merges keys of the configuration and whole devices, the description is what was said."""
    for key in ("config", "devices"):
        kept = {} if whole else entry.get(key, {})
        entry[key] = {name: value for name, value in (kept | asked.get(key, {})).items() if value != ""}
    entry["description"] = asked.get("description", "")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def running(path: Path) -> Iterator[Lxd]:
    """A stand-in that listens on a socket."""
    lxd = Lxd()

    class Handler(BaseHTTPRequestHandler):
        def serve(self) -> None:
            asked = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = json.dumps(lxd.answer(self.command, asked.path, parse_qs(asked.query), body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def address_string(self) -> str:
            return "here"

        def log_message(self, format: str, *words: Any) -> None:
            """Nothing: what was asked is in `told`."""

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.serve)
    with _Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield lxd
        finally:
            server.shutdown()
            thread.join()
