from __future__ import annotations

from pathlib import Path

import pytest

from infra.core.state import cache_home, write_atomically


def test_writing_tells_whether_anything_changed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    assert write_atomically(path, "one", 0o600) is True
    assert path.stat().st_mode & 0o777 == 0o600
    assert write_atomically(path, b"one", 0o600) is False
    assert write_atomically(path, "two", 0o600) is True
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_mode_that_drifted_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_atomically(path, "s", 0o600)
    path.chmod(0o644)
    assert write_atomically(path, "s", 0o600) is False
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_cache_follows_the_users_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", "/a")
    assert cache_home() == Path("/a")
    monkeypatch.delenv("SLIPWAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_home() == Path("/b/slipway")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_home() == Path("/c/.cache/slipway")
