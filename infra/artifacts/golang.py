"""The Go toolchain: this machine's when it is new enough, else the one in a Python package."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.core import process
from infra.core.context import Context
from infra.core.errors import EnvironmentFault
from infra.core.events import Detail, progress

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
            "GOARCH": architecture(),
            # buildvcs would stamp the commit of whatever work tree this package lies in
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            "GOWORK": "off",
            "GOEXPERIMENT": "",
            "GOTOOLCHAIN": "local" if _number(self.version) >= NEEDED else "auto",
            **more,
        }


def architecture() -> str:
    """This machine's architecture as Go, Debian and image platforms name it."""
    names = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    machine = platform.machine()
    if machine not in names:
        raise EnvironmentFault(
            f"slipway has no artifacts for {machine}", action="use an amd64 or arm64 machine"
        )
    return names[machine]


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
