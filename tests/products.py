"""The four products as their users have them: wheels, each installed into a venv of its own.

Fixtures for tests/integration and tests/e2e. Nothing of this checkout is on the path of what is installed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    "slipway-serving": ROOT,
    "slipway-client": ROOT / "infra" / "slipway_client",
    "slipway-model-server": ROOT / "infra" / "slipway_server",
    "slipway-stacks": ROOT / "stacks",
}


@dataclass(frozen=True)
class Installed:
    """A venv with one product in it, and an empty folder to use it from.

    constraints: the versions its packages have. seconds: what pip took.
    """

    folder: Path
    work: Path
    constraints: Path
    seconds: float

    def command(self, name: str) -> Path:
        return self.folder / "bin" / name

    @property
    def variables(self) -> dict[str, str]:
        """This process's environment without what would lead to the checkout."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV", "SLIPWAY_")) or name == "SLIPWAY_CACHE"
        }
        return kept | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}

    def run(self, name: str, *words: str, limit: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of the venv in the empty folder."""
        return subprocess.run(
            [self.command(name), *words],
            cwd=self.work,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def missing(self, *modules: str) -> set[str]:
        """Those of these top-level modules that cannot be imported in the venv."""
        code = f"import importlib.util as u, json; print(json.dumps([n for n in {modules!r} if u.find_spec(n) is None]))"
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout))

    def size(self) -> int:
        """Bytes of the files that the wheels hold; what Python compiles of them itself is not counted."""
        site = next((self.folder / "lib").glob("python*/site-packages"))
        return sum(
            path.stat().st_size for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"
        )


def build_wheels(folder: Path) -> Path:
    """The wheels of the four products, by the backend that is installed here; nothing is fetched."""
    argv = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*argv, "--wheel-dir", str(folder), *map(str, SOURCES.values())],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four wheels and nothing else."""
    return build_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def install(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Installed]:
    """Install a product by name from those wheels, its dependencies from wherever pip gets them.

    In the versions of requirements.lock, so that a test says the same tomorrow.
    """
    locked = tmp_path_factory.mktemp("locked") / "constraints.txt"
    pinned = re.findall(r"^\S+==.*?(?= \\$)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    locked.write_text("\n".join(pinned) + "\n")

    def product(name: str) -> Installed:
        folder, work = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp("empty")
        venv.create(folder / "venv", with_pip=False)
        begin = time.monotonic()
        argv = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "install"]
        done = subprocess.run(
            # not compiled: most of it is never imported, and what is, Python compiles then
            [*argv, "--quiet", "--no-compile", "--find-links", wheels, "--constraint", locked, name],
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
            cwd=work,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        assert done.returncode == 0, done.stderr
        return Installed(folder / "venv", work, locked, time.monotonic() - begin)

    return product


@pytest.fixture(scope="session")
def driver(install: Callable[[str], Installed]) -> Installed:
    """The driver's base, without any extra."""
    return install("slipway-serving")
