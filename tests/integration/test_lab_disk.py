"""The suite's own check, that lab tests do not start on a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import LAB_DISK_BYTES, can_make_hosts, short_of_disk

ROOT = Path(__file__).parents[2]
FULL = """
import shutil
from types import SimpleNamespace
shutil.disk_usage = lambda path: SimpleNamespace(free=5_900_000_000)
"""


def test_too_little_disk_says_where_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=LAB_DISK_BYTES))
    assert short_of_disk([tmp_path / "not" / "yet"]) == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=LAB_DISK_BYTES - 1))
    complaint = short_of_disk([tmp_path / "not" / "yet"])
    assert f"{tmp_path} has 6.0 GB" in complaint and "SLIPWAY_CACHE" in complaint
    assert len(complaint.splitlines()) == 1


@pytest.mark.skipif(not can_make_hosts(), reason="lab tests are skipped here, whatever the disk")
@pytest.mark.parametrize(("selected", "code"), [("lab", 3), ("not lab", 0)])
def test_a_session_with_lab_tests_ends_at_once(selected: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "full_disk.py").write_text(FULL)
    words = ["-p", "full_disk", "-p", "no:cacheprovider", "-q", "-m", selected]
    files = ["tests/contract/test_backends.py"] if selected == "lab" else ["tests/unit/core/test_retry.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("lab tests need 6 GB of free disk" in done.stdout + done.stderr) == (code == 3)
