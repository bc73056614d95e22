"""Wheels for another Python than the one that runs this, fetched by this machine's own pip."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from slipway.artifacts import cache, machine
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, EnvironmentFault
from slipway.core.events import Detail, progress

_GLIBC = range(41, 4, -1)  # what Debian trixie's C library (2.41) can load, newest first


def pip() -> tuple[str, ...]:
    """How to start pip here: of this interpreter, on PATH, or through uv. Raises EnvironmentFault."""
    candidates: list[tuple[str, ...]] = [(sys.executable, "-m", "pip")]
    candidates += [(found,) for found in (shutil.which("pip3"), shutil.which("pip")) if found]
    candidates += [("/usr/bin/python3", "-m", "pip")]
    if uv := shutil.which("uv"):
        candidates.append((uv, "tool", "run", "-q", "pip"))
    for argv in candidates:
        if not Path(argv[0]).exists():
            continue
        if process.run([*argv, "--version"], check=False).returncode == 0:
            return argv
    raise EnvironmentFault("there is no pip on this machine", action="apt-get install python3-pip")


def wheels(ctx: Context, lock: Path, python: str) -> Path:
    """A folder with the wheels of a hashed lock for Python `python` ("3.13") on this machine's platform.

    Every file is checked against the lock's hashes by pip and again before each use. Complete in the
    cache: nothing is asked of the network. Raises ArtifactError for a lock without hashes, CommandError
    when pip cannot get a wheel.
    """
    text = lock.read_text()
    wanted = re.findall(r"^[A-Za-z0-9][A-Za-z0-9._-]*==", text, re.MULTILINE)
    if not wanted or text.count("--hash=sha256:") < len(wanted):
        raise ArtifactError(
            "this is not a lock with hashes",
            where=str(lock),
            action="make it with `uv pip compile --generate-hashes`",
        )
    architecture = machine.architecture()
    key = cache.key_of(text, python, architecture)

    def make(folder: Path) -> None:
        argv = [*pip(), "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        argv += ["--implementation", "cp", "--python-version", python, "--dest", str(folder)]
        for platform in platforms(architecture):
            argv += ["--platform", platform]
        argv += ["--disable-pip-version-check", "--progress-bar", "off", "-r", str(lock)]
        with progress(ctx.emit, f"wheels for Python {python}", len(wanted)) as advance:
            done = 0

            def line(text: str) -> None:
                nonlocal done
                ctx.emit(Detail(text))
                if text.startswith("Collecting "):  # one line a package, cached by pip or not
                    done = min(done + 1, len(wanted))
                    advance(done)

            process.run(
                argv,
                timeout=1800,
                on_line=line,
                where=f"wheels of {lock.name}",
                action="pip uses its own configured index; each package of the lock needs a wheel for "
                f"Python {python} on {architecture}",
            )

    return cache.entry(ctx, f"wheels-{python}", key, make)


def platforms(architecture: str) -> tuple[str, ...]:
    """The platform tags whose wheels run there: pip takes a given list literally and adds nothing."""
    kernel = machine.kernel_name(architecture)
    tags = [f"manylinux_2_{minor}_{kernel}" for minor in _GLIBC]
    return (
        *tags,
        f"manylinux2014_{kernel}",
        f"manylinux2010_{kernel}",
        f"manylinux1_{kernel}",
        f"linux_{kernel}",
    )
