"""Stand-ins for the places that models are fetched from: a web server, a registry, Google's and Hugging Face's API.

Each is a small server on loopback with bytes by name. All of them know ranges, count what they send, and can be
made to break off a transfer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Store:
    """What a stand-in holds and how it behaves. address: its scheme, host and port."""

    files: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    ranges: bool = True
    cut: dict[str, int] = field(
        default_factory=dict
    )  # of a file, after so many bytes its connection is closed
    login: str = ""  # the Authorization it wants
    sent: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.address).netloc


class _Handler(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        self.posted = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        self.store.asked.append(f"{self.command} {path}")
        if self.store.login and self.headers.get("Authorization") != self.store.login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="stand-in"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        document = self.document(path, query)
        if document is not None:
            self._send(json.dumps(document).encode(), "application/json", body=body)
        elif (name := self.named(path)) in self.store.files:
            self._send_file(name, body=body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if path.startswith("/api/") else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def document(self, path: str, query: dict[str, list[str]]) -> object | None:
        """What an API answers here; None where the path is a file's."""
        return None

    def named(self, path: str) -> str:
        """The file that a path means."""
        return path.removeprefix("/")

    def _send(self, data: bytes, kind: str, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            with contextlib.suppress(OSError):  # the client may have had enough
                self.wfile.write(data)

    def _send_file(self, name: str, *, body: bool) -> None:
        data = self.store.files[name]
        asked = self.headers.get("Range") if self.store.ranges else None
        first, last = 0, len(data) - 1
        if asked is not None:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
        part = data[first : last + 1]
        self.send_response(206 if asked is not None else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        if asked is not None:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if body:
            part = part[: max(0, self.store.cut.get(name, len(data)) - first)]
            self.store.sent[name] = self.store.sent.get(name, 0) + len(part)
            with contextlib.suppress(OSError):
                self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Nothing to the terminal."""


class _Registry(_Handler):
    """The OCI distribution API, read only: manifests and blobs are files."""

    def named(self, path: str) -> str:
        return path.rpartition("/")[2]


class _GoogleStorage(_Handler):
    """The JSON API of Google Cloud Storage, as far as it is read."""

    def document(self, path: str, query: dict[str, list[str]]) -> object | None:
        _, _, rest = path.partition("/b/")
        bucket, _, name = rest.partition("/o")
        if query.get("alt") == ["media"]:
            return None
        if name in ("", "/"):
            prefix = query.get("prefix", [""])[0]
            names = [one for one in self.store.files if one.startswith(f"{bucket}/{prefix}")]
            return {"items": [self._described(one) for one in sorted(names)]}
        found = f"{bucket}/{name.removeprefix('/')}"
        return self._described(found) if found in self.store.files else None

    def named(self, path: str) -> str:
        bucket, _, name = path.partition("/b/")[2].partition("/o/")
        return f"{bucket}/{name}"

    def _described(self, name: str) -> dict[str, Any]:
        bucket, _, key = name.partition("/")
        data = self.store.files[name]
        return {
            "kind": "storage#object",
            "name": key,
            "bucket": bucket,
            "size": str(len(data)),
            "generation": str(int(hashlib.md5(data).hexdigest()[:12], 16)),
            "updated": "2026-01-01T00:00:00Z",
            "timeCreated": "2026-01-01T00:00:00Z",
        }


class _HuggingFace(_Handler):
    """Hugging Face's Hub: what is known of a model, the files of a revision, and each file."""

    def document(self, path: str, query: dict[str, list[str]]) -> object | None:
        if not path.startswith("/api/models/"):
            return None
        words = path.removeprefix("/api/models/").split("/")
        repository, rest = "/".join(words[:2]), words[2:]
        held = {name: data for name, data in self.store.files.items() if name.startswith(f"{repository}/")}
        below = {name.removeprefix(f"{repository}/"): data for name, data in held.items()}
        if not below:
            return None
        if not rest or rest[0] == "revision":
            return {"id": repository, "modelId": repository, "sha": "a" * 40, "siblings": [], "tags": []}
        if rest[0] == "paths-info":
            wanted = parse_qs(self.posted.decode()).get("paths") or json.loads(self.posted)["paths"]
            return [self._described(name, below[name]) for name in wanted if name in below]
        folder = "/".join(rest[2:])
        names = [name for name in below if not folder or name.startswith(f"{folder}/")]
        out: dict[str, dict[str, Any]] = {}
        for name in names:
            if query.get("recursive") == ["true"]:
                out[name] = self._described(name, below[name])
                continue
            first, slash, _ = name.removeprefix(f"{folder}/" if folder else "").partition("/")
            full = f"{folder}/{first}" if folder else first
            out[full] = (
                {"type": "directory", "path": full, "oid": "0" * 40, "size": 0}
                if slash
                else self._described(name, below[name])
            )
        return list(out.values())

    def named(self, path: str) -> str:
        words = path.removeprefix("/").split("/")
        return "/".join([*words[:2], *words[4:]])

    def _described(self, name: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


@contextmanager
def _served(kind: type[_Handler], store: Store, tls: Path | None = None) -> Iterator[Store]:
    handler = type("Handler", (kind,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    store.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def web(store: Store, tls: Path) -> contextlib.AbstractContextManager[Store]:
    """A web server with these files, over TLS. tls: key and certificate in one file."""
    return _served(_Handler, store, tls)


def registry(store: Store, tls: Path) -> contextlib.AbstractContextManager[Store]:
    """A registry, read only; `pushed` fills it."""
    return _served(_Registry, store, tls)


def google_storage(store: Store) -> contextlib.AbstractContextManager[Store]:
    """Google Cloud Storage, as STORAGE_EMULATOR_HOST names it; files are called BUCKET/OBJECT."""
    return _served(_GoogleStorage, store)


def hugging_face(store: Store) -> contextlib.AbstractContextManager[Store]:
    """Hugging Face's Hub, as HF_ENDPOINT names it; files are called ORGANISATION/MODEL/FILE."""
    return _served(_HuggingFace, store)


def pushed(store: Store, tag: str, layers: list[tuple[bytes, dict[str, Any]]], config: str) -> str:
    """Put an artifact into a registry: each layer's bytes and what its descriptor says; returns its digest."""

    def put(data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        store.files[digest] = data
        return digest

    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": config, "digest": put(b"{}"), "size": 2},
        "layers": [{"digest": put(data), "size": len(data), **said} for data, said in layers],
    }
    manifest = json.dumps(document).encode()
    store.files[tag] = manifest
    return put(manifest)
