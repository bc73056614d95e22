"""A run told in its folder: run.json, junit.xml and index.html."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path

from slipway.core import project
from slipway.core.state import write_atomically
from slipway.core.types import Run
from slipway.report.document import document
from slipway.report.junit import junit
from slipway.report.page import page

_MADE_WITH = ("ansible-core", "ansible-runner", "pulumi", "pulumi-kubernetes", "tensorflow-cpu", "tensorflow")


def write(folder: Path, run: Run) -> tuple[Path, ...]:
    """Tell a run that ended at any stage. Returns the files, index.html last.

    Files are replaced one by one and whole, so a failure leaves older ones readable.
    """
    told = run.results, run.values, run.versions
    texts = {
        "run.json": json.dumps(document(*told), indent=2, default=str) + "\n",
        "junit.xml": junit(run.results, run.values),
        "index.html": page(folder, *told),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return tuple(folder / name for name in texts)


def versions() -> dict[str, str]:
    """What this run was made with."""
    out = {"python": platform.python_version(), "kernel": platform.release(), "slipway": project.version()}
    for name in _MADE_WITH:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out
