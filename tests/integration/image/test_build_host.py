"""The host an image is built on."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway.core.context import Context
from slipway.core.errors import ImageError
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Hosts
from slipway.image import build


def test_without_any_docker_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # a machine without Docker
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache")
    with pytest.raises(ImageError) as caught, build.build_host(ctx, Settings(), Hosts("ssh", ())):
        pytest.fail("there is no Docker here")
    assert "group docker" in caught.value.action
