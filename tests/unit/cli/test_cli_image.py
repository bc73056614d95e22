"""`slipway image verify`: what it looks at, by which key, and what it prints, without a registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from slipway.cli import image
from slipway.clients import registry as registries
from slipway.core.context import Context
from slipway.core.errors import ImageError, UsageError
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.image import origin, reference, signing

from tests.standins.image_store import INPUTS, MemoryStore, material


@pytest.fixture
def built(tmp_path: Path) -> str:
    """A state folder whose last image is signed; returns the image's digest."""
    (tmp_path / "slipway.yaml").write_text("")
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache")
    store = MemoryStore()
    digest = store.image(INPUTS.labels)
    made = material(digest, tmp_path / "wheels")
    origin.sign(ctx, store, signing.private_key(ctx.state, Settings()), made, INPUTS)
    ctx.state.keep(made.image)
    return digest


def verify(tmp_path: Path, named: str = "", *, key: Path | None = None, json: bool = False) -> int:
    return image.verify(named, key, offline=True, config=tmp_path / "slipway.yaml", json=json)


def test_the_image_built_last_is_proved_from_the_state_folder(
    built: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path) == 0
    said = capsys.readouterr().out
    assert built in said and "7 packages" in said and "c" * 40 in said
    assert verify(tmp_path, json=True) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == built


def test_a_layout_elsewhere_is_proved_by_the_key_that_is_named(built: str, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / ".slipway/image/layout", tmp_path / "copy")
    shutil.copy(tmp_path / ".slipway/signing/cosign.pub", tmp_path / "their.pub")
    shutil.rmtree(tmp_path / ".slipway")
    assert verify(tmp_path, str(tmp_path / "copy"), key=tmp_path / "their.pub") == 0
    assert verify(tmp_path, f"{tmp_path / 'copy'}@{built}", key=tmp_path / "their.pub") == 0
    with pytest.raises(UsageError, match="no key to check with"):
        verify(tmp_path, str(tmp_path / "copy"))
    with pytest.raises(ImageError, match="there is no image sha256:0000"):
        verify(tmp_path, f"{tmp_path / 'copy'}@sha256:{'0' * 64}", key=tmp_path / "their.pub")


def test_another_key_is_exit_code_5(built: str, tmp_path: Path) -> None:
    other = signing.private_key(State(tmp_path / "other"), Settings()).public
    with pytest.raises(origin.Unproved, match="is not proved") as error:
        verify(tmp_path, key=other.path)
    assert error.value.exit_code == 5


@pytest.mark.parametrize(
    "named", ["mnist", "10.0.0.1:5000/mnist", "host/UPPER:1", "host/a@sha256:12", "/etc/none"]
)
def test_what_is_no_image_is_refused(built: str, tmp_path: Path, named: str) -> None:
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache")
    with pytest.raises(UsageError, match="is no image"):
        reference.resolve(ctx, Settings(), named, offline=False)
    with pytest.raises(UsageError, match="there is no folder"):
        reference.resolve(ctx, Settings(), named, offline=True)


def test_a_foreign_registry_is_asked_without_our_login(
    built: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache")
    monkeypatch.setattr(reference, "manifest_digest", lambda *asked: built if asked[2] == "1" else None)
    settings = Settings.model_validate(
        {"image": {"registry": "ours:443", "username": "me", "password_file": tmp_path / "slipway.yaml"}}
    )
    for host, username in (("ours:443", "me"), ("theirs", None)):
        store, where, digest = reference.resolve(ctx, settings, f"{host}/a/b:1", offline=False)
        assert isinstance(store, registries.Repository)
        assert (store.name, store.registry.username) == ("a/b", username)
        assert (where, digest) == (f"{host}/a/b:1", built)
    with pytest.raises(ImageError, match="there is no tag 2 in a/b"):
        reference.resolve(ctx, settings, "theirs/a/b:2", offline=False)


def test_nothing_built_yet_is_said(tmp_path: Path) -> None:
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache")
    with pytest.raises(UsageError, match="no image was built here yet"):
        reference.resolve(ctx, Settings(), "", offline=True)
