"""TensorFlow starts slowly, so each of its processes runs once and several tests read what it found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from slipway.core import process

HERE = Path(__file__).parent
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.fixture(scope="session")
def saved_apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder save_apart.py filled in a process of its own."""
    folder = tmp_path_factory.mktemp("apart")
    process.run([sys.executable, HERE / "save_apart.py", folder], env=ENVIRONMENT)
    return folder
