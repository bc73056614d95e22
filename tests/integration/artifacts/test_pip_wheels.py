"""Wheels by lock: only hashed locks, asked for once, for the Python that will load them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from slipway.artifacts import pip_wheels
from slipway.core.errors import ArtifactError, CommandError, EnvironmentFault
from slipway.core.events import ProgressAdvanced, ProgressStarted

HASH = "--hash=sha256:" + "a" * 64
LOCK = f"one==1.0 \\\n    {HASH}\ntwo[extra]==2.0 \\\n    {HASH}\n    # via one\n".replace("[extra]", "")


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in pip that writes down how it was called and leaves two files where it was told."""
    path = tmp_path / "pip"
    path.write_text(
        f"""#!/bin/sh
echo "$@" >> '{tmp_path}/called'
[ -e '{tmp_path}/broken' ] && {{ echo 'ERROR: No matching distribution found for two==2.0' >&2; exit 1; }}
while [ "$1" != --dest ]; do shift; done
echo Collecting one==1.0; echo x > "$2/one-1.0-py3-none-any.whl"
echo Collecting two==2.0; echo y > "$2/two-2.0-py3-none-any.whl"
"""
    )
    path.chmod(0o755)
    monkeypatch.setattr(pip_wheels, "pip", lambda: (str(path),))
    return tmp_path / "called"


def lock(tmp_path: Path, text: str = LOCK) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(text)
    return path


def test_fetched_once_then_from_the_cache(lab, tmp_path: Path, fake_pip: Path) -> None:
    folder = pip_wheels.wheels(lab.ctx, lock(tmp_path), "3.13")
    assert {path.name for path in folder.glob("*.whl")} == {
        "one-1.0-py3-none-any.whl",
        "two-2.0-py3-none-any.whl",
    }
    called = fake_pip.read_text()
    for words in ("--require-hashes", "--no-deps", "--only-binary :all:", "--python-version 3.13"):
        assert words in called
    assert ProgressStarted("wheels for Python 3.13", 2, "steps") in lab.events
    assert ProgressAdvanced("wheels for Python 3.13", 2) in lab.events
    (tmp_path / "broken").touch()
    assert pip_wheels.wheels(lab.ctx, lock(tmp_path), "3.13") == folder
    assert len(fake_pip.read_text().splitlines()) == 1


def test_another_lock_or_python_is_another_folder(lab, tmp_path: Path, fake_pip: Path) -> None:
    one = pip_wheels.wheels(lab.ctx, lock(tmp_path), "3.13")
    assert pip_wheels.wheels(lab.ctx, lock(tmp_path), "3.12") != one
    assert pip_wheels.wheels(lab.ctx, lock(tmp_path, LOCK.replace("2.0", "2.1")), "3.13") != one
    assert len(fake_pip.read_text().splitlines()) == 3


def test_a_truncated_wheel_is_fetched_again(lab, tmp_path: Path, fake_pip: Path) -> None:
    folder = pip_wheels.wheels(lab.ctx, lock(tmp_path), "3.13")
    (folder / "one-1.0-py3-none-any.whl").write_text("")
    assert pip_wheels.wheels(lab.ctx, lock(tmp_path), "3.13") == folder
    assert (folder / "one-1.0-py3-none-any.whl").read_text() == "x\n"
    assert len(fake_pip.read_text().splitlines()) == 2


def test_pips_own_words_reach_the_reader(lab, tmp_path: Path, fake_pip: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(CommandError) as error:
        pip_wheels.wheels(lab.ctx, lock(tmp_path), "3.13")
    assert "No matching distribution found for two==2.0" in error.value.tail
    assert error.value.where == "wheels of requirements.lock"


@pytest.mark.parametrize("text", ["", "one==1.0\n", f"one==1.0 \\\n    {HASH}\ntwo==2.0\n", "# nothing\n"])
def test_lock_without_hashes_is_refused(lab, tmp_path: Path, fake_pip: Path, text: str) -> None:
    with pytest.raises(ArtifactError, match="not a lock with hashes"):
        pip_wheels.wheels(lab.ctx, lock(tmp_path, text), "3.13")
    assert not fake_pip.exists()


def test_platforms_cover_what_trixie_loads_newest_first() -> None:
    tags = pip_wheels.platforms("arm64")
    assert tags[0] == "manylinux_2_41_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(tags)
    assert not [tag for tag in tags if "x86_64" in tag]


def test_no_pip_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    monkeypatch.setattr(Path, "exists", lambda _self: False)
    with pytest.raises(EnvironmentFault, match="no pip") as error:
        pip_wheels.pip()
    assert error.value.action == "apt-get install python3-pip"
