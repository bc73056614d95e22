"""MNIST from an address, against a stand-in for the mirror: only files with the right sha256 are used."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, UsageError
from slipway.core.events import Event, ProgressStarted
from slipway.core.schema import ModelSettings, Settings
from slipway.core.state import State
from slipway.model.mnist import data, idx, published
from slipway.model.stage import ExportModel

from tests.unit.model.test_data import write_idx

NAMES = tuple(published.PUBLISHED)


@dataclass
class MirrorStandIn:
    """A stand-in HTTP server on loopback with MNIST's four files (two images each), made to fail by name."""

    address: str
    files: dict[str, bytes]
    sums: Path
    cut: set[str] = field(default_factory=set)  # half of these is sent, each time from where it is asked
    asked: list[str] = field(default_factory=list)
    tells_length: bool = True


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[MirrorStandIn]:
    folder = write_idx(tmp_path / "mirror", gz=True)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    sums = tmp_path / "mnist.sha256"
    sums.write_text("".join(f"{hashlib.sha256(raw).hexdigest()}  {name}\n" for name, raw in files.items()))
    found: list[MirrorStandIn] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/mnist/")
            found[0].asked.append(name)
            raw = found[0].files.get(name)
            if raw is None:
                self.send_error(404)
                return
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            if found[0].tells_length:
                self.send_header("Content-Length", str(len(raw) - start))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client may have had enough
                self.wfile.write(raw[start : len(raw) // 2] if name in found[0].cut else raw[start:])

        def log_message(self, *_: Any) -> None:
            """Nothing to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.append(MirrorStandIn(f"http://127.0.0.1:{server.server_port}/mnist/", files, sums))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found[0]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr("slipway.artifacts.download.time.sleep", lambda _seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Context(State(tmp_path / "state"), tmp_path / "run", tmp_path, cache=tmp_path / "cache")


def test_the_files_are_fetched_checked_and_read(ctx: Context, mirror: MirrorStandIn, tmp_path: Path) -> None:
    events: list[Event] = []
    found = published.fetched(
        Context(ctx.state, ctx.run, ctx.project, cache=ctx.cache, emit=events.append),
        mirror.address,
        mirror.sums,
    )
    assert found.sha256 == data.load(tmp_path / "mirror").sha256
    assert found.source == f"MNIST of {mirror.address}"
    assert mirror.asked == list(NAMES)
    assert [event.label for event in events if isinstance(event, ProgressStarted)] == [
        f"download MNIST {name}" for name in NAMES
    ]


@pytest.mark.parametrize("address", ["the same", "another one"])
def test_what_was_fetched_once_needs_no_network(ctx: Context, mirror: MirrorStandIn, address: str) -> None:
    first = published.fetched(ctx, mirror.address, mirror.sums)
    mirror.files.clear()
    mirror.asked.clear()
    where = mirror.address if address == "the same" else "http://127.0.0.1:1/elsewhere"
    assert published.fetched(ctx, where, mirror.sums).sha256 == first.sha256
    assert mirror.asked == []


@pytest.mark.parametrize("name", NAMES)
def test_another_file_than_expected_is_named_and_not_kept(
    ctx: Context, mirror: MirrorStandIn, name: str
) -> None:
    right, wrong = mirror.files[name], mirror.files[name] + b"\0"
    mirror.files[name] = wrong
    with pytest.raises(ArtifactError) as refused:
        published.fetched(ctx, mirror.address, mirror.sums)
    said = "\n".join(refused.value.lines())
    assert refused.value.where == f"{mirror.address}{name}"
    assert hashlib.sha256(wrong).hexdigest() in said
    assert hashlib.sha256(right).hexdigest() in said
    assert "model.data_sha256" in refused.value.action
    assert not list(ctx.cache.rglob("*-ubyte.gz"))
    mirror.files[name] = right
    assert published.fetched(ctx, mirror.address, mirror.sums).held_out


def test_without_sums_it_must_be_mnist_as_published(ctx: Context, mirror: MirrorStandIn) -> None:
    with pytest.raises(ArtifactError, match="9912422 are pinned"):
        published.fetched(ctx, mirror.address, None)
    mirror.files[NAMES[0]] = bytes(9_912_422)
    with pytest.raises(ArtifactError, match=published.PUBLISHED[NAMES[0]]):
        published.fetched(ctx, mirror.address, None)
    assert mirror.asked == [NAMES[0]] * 2


@pytest.mark.parametrize("own_sums", [False, True])
def test_no_more_is_taken_than_was_published_from_a_server_that_tells_no_length(
    ctx: Context, mirror: MirrorStandIn, own_sums: bool
) -> None:
    mirror.files[NAMES[0]] = bytes(20_000_000)
    mirror.tells_length = False
    mirror.sums.write_text("".join(f"{sha256}  {name}\n" for name, sha256 in published.PUBLISHED.items()))
    with pytest.raises(ArtifactError, match="is longer than it said"):
        published.fetched(ctx, mirror.address, mirror.sums if own_sums else None)
    assert sum(path.stat().st_size for path in ctx.cache.rglob("*") if path.is_file()) < 11_000_000


def test_a_file_that_is_not_there_is_told_by_its_address(ctx: Context, mirror: MirrorStandIn) -> None:
    del mirror.files[NAMES[2]]
    with pytest.raises(ArtifactError, match="HTTP 404") as refused:
        published.fetched(ctx, mirror.address.rstrip("/"), mirror.sums)
    assert refused.value.where == f"{mirror.address}{NAMES[2]}"
    assert "artifacts.sources" not in refused.value.action


def test_a_file_cut_short_is_asked_for_again_and_then_told(ctx: Context, mirror: MirrorStandIn) -> None:
    mirror.cut.add(NAMES[1])
    with pytest.raises(ArtifactError, match="connection closed after") as refused:
        published.fetched(ctx, mirror.address, mirror.sums)
    assert refused.value.where == f"{mirror.address}{NAMES[1]}"
    assert mirror.asked.count(NAMES[1]) > 1
    mirror.cut.clear()
    assert published.fetched(ctx, mirror.address, mirror.sums).held_out


def test_offline_without_a_cache_tells_the_address(ctx: Context, mirror: MirrorStandIn) -> None:
    with pytest.raises(ArtifactError, match="refused") as refused:
        published.fetched(ctx, "http://127.0.0.1:1/mnist", mirror.sums)
    assert refused.value.where == f"http://127.0.0.1:1/mnist/{NAMES[0]}"


def test_sums_may_name_any_spelling_and_more_files(tmp_path: Path) -> None:
    digest = iter("abcdef0123456789")
    lines = [f"{next(digest) * 64} *./mnist/{idx.names(*file)[2]}" for file in FILES]
    file = tmp_path / "sums"
    file.write_text("# of our mirror\n\n" + "\n".join([*lines, f"{'0' * 64}  README"]))
    assert list(published.read_sums(file)) == [idx.names(*file)[2] for file in FILES]


FILES = [(part, kind) for part in ("train", "t10k") for kind in ("images", "labels")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no line for the train images"),
        (f"{'a' * 64}  train-images-idx3-ubyte.gz\n", "no line for the train labels"),
        ("abc  train-images-idx3-ubyte.gz\n", "sums:1: not a sha256 and a file name"),
        (f"\n{'a' * 64}\n", "sums:2: not a sha256 and a file name"),
    ],
)
def test_sums_that_are_none_are_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "sums"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        published.read_sums(file)
    assert says in "\n".join(refused.value.lines())


def test_the_plan_fetches_nothing_and_says_what_would_be(ctx: Context, mirror: MirrorStandIn) -> None:
    settings = Settings(model=ModelSettings(data=mirror.address, data_sha256=mirror.sums, hidden=(64,)))
    lines = ExportModel().plan(ctx, settings)
    assert lines[0] == f"download MNIST's four files from {mirror.address}"
    assert lines[1].startswith("train 784-64-10: 50 epochs")
    assert lines[2].startswith("export mnist version 1")
    assert mirror.asked == []
    published.fetched(ctx, mirror.address, mirror.sums)
    assert [line.split()[0] for line in ExportModel().plan(ctx, settings)] == ["train", "export"]


def test_published_sums_are_sums() -> None:
    assert all(len(one) == 64 and int(one, 16) for one in published.PUBLISHED.values())
    assert len(set(published.PUBLISHED.values())) == len(NAMES) == 4
    assert set(published._BYTES) == set(published.PUBLISHED.values())
    assert np.array_equal(sorted(NAMES), sorted(idx.names(*file)[1] for file in FILES))
