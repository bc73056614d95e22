"""Programs that virtual machines are made with, from the packages of this machine's distribution."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from slipway.core.events import Emit
from slipway.status import packages


def ensure(wanted: Mapping[str, str], emit: Emit) -> None:
    """Install what is not here. wanted: program, or file by its whole path -> package."""
    missing = {package for program, package in wanted.items() if not _there(program)}
    if missing:
        packages.install(tuple(sorted(missing)), emit)


def _there(program: str) -> bool:
    return any((Path(folder) / program).is_file() for folder in (*os.get_exec_path(), "/usr/sbin", "/sbin"))
