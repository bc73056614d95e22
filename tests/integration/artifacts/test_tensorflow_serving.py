"""Google's server from an apt repository: a stand-in of upstream's names, verified by this machine's own apt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from slipway import artifacts
from slipway.artifacts.tensorflow_serving import PACKAGE, VERSION
from slipway.core.errors import ArtifactError
from slipway.core.events import Note
from slipway.core.schema import Settings

from tests.standins.apt_repository import Package, SigningKey, publish
from tests.unit.artifacts.conftest import Lab

PROGRAM = "usr/bin/tensorflow_model_server"
PROJECT = Path(__file__).parents[3]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def key() -> SigningKey:
    return SigningKey()


@pytest.fixture
def served(tmp_path: Path, key: SigningKey) -> Iterator[tuple[Path, str]]:
    """A whole repository, and where it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    release(folder, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def release(folder: Path, key: SigningKey, version: str = VERSION, **wrong: Any) -> None:
    package = Package(PACKAGE, version, {f"/{PROGRAM}": b"the server"}, [f"/{PROGRAM}"])
    publish(folder, key, {PACKAGE: [package]}, **wrong)
    (folder / "tensorflow-serving.release.pub.gpg").write_bytes((folder / "key.gpg").read_bytes())


@pytest.fixture
def get(lab: Lab, served: tuple[Path, str], key: SigningKey) -> Callable[..., Path]:
    (lab.ctx.project / "playbooks").symlink_to(PROJECT / "playbooks")

    def act(**image: str) -> Path:
        wanted = {"tensorflow_repository": served[1], "tensorflow_key_fingerprint": key.fingerprint}
        return artifacts.tensorflow_server(lab.ctx, Settings.model_validate({"image": {**wanted, **image}}))

    return act


def test_the_package_is_verified_unpacked_and_kept(
    get: Callable[..., Path], served: tuple[Path, str]
) -> None:
    found = get()
    assert [path.name for path in found.parent.iterdir() if path.is_dir()] == ["root"]
    program = found / PROGRAM
    assert program.read_bytes() == b"the server" and program.stat().st_mode & 0o111
    for path in served[0].rglob("InRelease"):
        path.unlink()
    assert get() == found, "what is cached is asked of nobody"


def test_a_key_that_ends_soon_is_told(
    get: Callable[..., Path], served: tuple[Path, str], key: SigningKey, lab: Lab
) -> None:
    release(served[0], key, ends_in=10)
    get()
    assert [event.text for event in lab.events if isinstance(event, Note) and "ends on" in event.text]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ends_in": -101}, "its signing key ended on"),
        ({"fault": "unsigned"}, "is not signed"),
        ({"fault": "wrongly signed"}, "signature"),
        ({"fault": "altered"}, "signature|not valid|invalid|NODATA|clearsigned"),
        ({"fault": "cut lists"}, "Hash|size|unexpected"),
        ({"version": "2.20.0"}, f"it has no {PACKAGE} {VERSION}"),
    ],
    ids=["ended", "unsigned", "wrongly signed", "altered", "cut short", "another version"],
)
def test_what_cannot_be_trusted_is_refused_in_words(
    get: Callable[..., Path], served: tuple[Path, str], key: SigningKey, wrong: dict[str, Any], said: str
) -> None:
    release(served[0], key, **wrong)
    with pytest.raises(ArtifactError) as caught:
        get()
    error = caught.value
    assert re.search(said, f"{error.what}\n{error.tail}"), error.lines()
    assert error.where == served[1]
    assert "image.server: portable" in error.action and "image.tensorflow_repository" in error.action


def test_another_key_is_refused_before_anything_it_signed_is_read(
    get: Callable[..., Path], served: tuple[Path, str]
) -> None:
    with pytest.raises(ArtifactError, match="is not to be trusted") as caught:
        get(tensorflow_key_fingerprint="F" * 40)
    assert "F" * 40 in caught.value.tail


def test_a_repository_that_does_not_answer_is_told(get: Callable[..., Path]) -> None:
    with pytest.raises(ArtifactError, match="its key cannot be had"):
        get(tensorflow_repository="http://127.0.0.1:1")
