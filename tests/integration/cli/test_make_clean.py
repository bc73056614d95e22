"""`make clean`: what slipway made goes, in a checkout and in a cache that hold more than that."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from slipway.core import process
from slipway.core.errors import CommandError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with this Makefile, whose venv's slipway is this one, and things of the user's own."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    slipway = tmp_path / ".venv" / "bin" / "slipway"
    slipway.parent.mkdir(parents=True)
    slipway.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = {[str(ROOT / 'infra'), str(ROOT / 'stacks')]}\n"
        "from slipway.cli.app import main\nmain()\n"
    )
    slipway.chmod(0o755)
    for name in ("cache/photos", "cache/artifacts", ".slipway/runs/1", ".slipway/photos", "build/site"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.jpg").write_text("x")
    return tmp_path


def clean(checkout: Path) -> None:
    process.run(
        ["make", "-C", checkout, "clean"],
        env={"SLIPWAY_CACHE": str(checkout / "cache"), "MAKEFLAGS": "", "HOME": os.environ.get("HOME", "/")},
        timeout=120,
    )


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_no_photo_is_lost(checkout: Path) -> None:
    clean(checkout)
    assert left(checkout) == [".slipway/lock", ".slipway/photos/1.jpg", "Makefile", "cache/photos/1.jpg"]


def test_without_a_venv_nothing_of_slipways_goes(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    clean(checkout)
    assert "cache/artifacts/1.jpg" in left(checkout)
    assert ".slipway/runs/1/1.jpg" in left(checkout)


def test_a_refusal_ends_it_before_the_venv_goes(checkout: Path) -> None:
    (checkout / "cache").chmod(0o777)
    before = left(checkout)
    with pytest.raises(CommandError, match="clean") as refused:
        clean(checkout)
    assert "can be written by everybody" in refused.value.output
    assert set(before) <= set(left(checkout))
