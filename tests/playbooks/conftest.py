"""What tests of the playbooks share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ansible() -> str:
    """ansible-playbook of this environment, which need not be on PATH."""
    return str(Path(sys.executable).with_name("ansible-playbook"))
