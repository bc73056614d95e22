"""The whole chain with image.server: tensorflow, from a stand-in for Google's repository."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from slipway import artifacts
from slipway.artifacts.tensorflow_serving import VERSION
from slipway.core.context import Context
from slipway.core.state import State
from slipway.image import build_context, own_wheels

from tests.e2e.conftest import PROJECT, Project
from tests.standins.apt_repository import SigningKey, publish
from tests.standins.tensorflow_packages import PROGRAM, whole

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def settings(lab: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The repository's, which holds a package that needs nothing of its surroundings."""
    folder, key = tmp_path_factory.mktemp("repository"), SigningKey()
    ctx = Context(State(lab.state), folder, PROJECT)
    packed = folder / "runtime.tar.gz"
    build_context.write_runtime(packed, artifacts.wheels(ctx, build_context.LOCK, "3.13"), "portable")
    publish(folder, key, whole(VERSION, {**unpacked(packed), **own()}))
    packed.unlink()
    (folder / "tensorflow-serving.release.pub.gpg").write_bytes((folder / "key.gpg").read_bytes())
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield [
        *("--set", "image.server=tensorflow"),
        *("--set", f"image.tensorflow_repository=http://127.0.0.1:{server.server_address[1]}"),
        *("--set", f"image.tensorflow_key_fingerprint={key.fingerprint}"),
    ]
    server.shutdown()
    thread.join()
    server.server_close()


def unpacked(packed: Path) -> dict[str, bytes]:
    with tarfile.open(packed) as archive:
        found = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {
            name.removeprefix("site-packages/"): (content or io.BytesIO()).read()
            for name, content in found.items()
            if name.startswith("site-packages/")
        }


def own() -> dict[str, bytes]:
    return {
        path.removeprefix("site-packages/"): content
        for path, content in own_wheels.files("portable").items()
        if path.startswith("site-packages/")
    }


def test_the_chain_proves_it_and_goes_back(lab: Project, settings: list[str]) -> None:
    done = lab.run("up", *settings)
    assert done.code == 0, done.err[-4000:]
    assert lab.report("smoke.json")["ok"]
    assert lab.value("image")["server"] == "tensorflow"
    (pod, *_) = lab.get("pods", "-n", "serving", "-l", "app=mnist-server")["items"]
    told = lab.kubectl("exec", "-n", "serving", pod["metadata"]["name"], "--", "head", "-2", PROGRAM)
    assert f"tensorflow-model-server {VERSION}" in told
    again = lab.run("up", *settings)
    assert again.code == 0 and "nothing changed" in again.err, again.err[-4000:]
    back = lab.run("up")
    assert back.code == 0, back.err[-4000:]
    assert lab.value("image")["server"] == "portable"
