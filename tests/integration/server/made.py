"""The SavedModels of make_models.py, made once per content of it and TensorFlow's version."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from slipway.core.state import cache_home

MAKER = Path(__file__).with_name("make_models.py")


def made_folder() -> Path:
    """The folder with models/ and answers.pickle; made now when the cache does not have it."""
    name = hashlib.sha256(MAKER.read_bytes() + version("tensorflow-cpu").encode()).hexdigest()[:16]
    folder = cache_home() / "tests" / f"served-{name}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        whole = Path(fresh) / "whole"
        done = subprocess.run(
            [sys.executable, str(MAKER), str(whole)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was first
                raise
    return folder
