"""The Go toolchain: this machine's when it is new enough, else the module golang.org/toolchain.

Debian 12 and 13 and Ubuntu up to 26.04 have an older Go than Kubernetes needs, so a fresh machine gets the
pinned toolchain into the cache, as `go` itself would: from the module proxy, where the modules to build come
from too, and checked against the hash that Go's checksum database has for it. Only if that cannot be had, a
Go that can switch toolchains is left to fetch the right one by itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.artifacts import answers, cache, download, go_modules, machine, pins
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, EnvironmentFault, SlipwayError
from slipway.core.events import Detail, Note, progress

NEEDED = (1, 26)
# From this release on `go` fetches the toolchain a go.mod asks for by itself.
SWITCHING = (1, 21)
_MODULE = "golang.org/toolchain"
_PROXY = "modules come through GOPROXY as `go env GOPROXY` names it; check that it answers"


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

    Raises EnvironmentFault if none can be had; nothing is left of a failed fetch.
    """
    own = installed()
    if own is not None and _number(own.version) >= NEEDED:
        return own
    try:
        return _fetched(ctx)
    except SlipwayError as error:
        if own is not None:
            ctx.emit(
                Note(f"{error.what}; {own.command} ({own.version}) fetches the toolchain it needs itself")
            )
            return own
        raise EnvironmentFault(
            f"there is no Go {NEEDED[0]}.{NEEDED[1]} or newer on this machine, and none could be fetched",
            tail="\n".join(error.lines()),
            action="install Go from go.dev/dl into /usr/local/go, or let this machine reach a Go module "
            "proxy (GOPROXY), which the modules to build come from too",
        ) from error


def _fetched(ctx: Context) -> Go:
    row = pins.row("go-toolchain").pinned()
    # as go names it; the zip holds everything below a folder of this name
    version = f"v0.0.1-go{row.version}.{row.platform.replace('/', '-')}"

    def make(folder: Path) -> None:
        ctx.emit(Note(f"no Go {NEEDED[0]}.{NEEDED[1]} on this machine; fetching Go {row.version}"))
        proxies = go_modules.proxies(default=_default_proxies())
        if not proxies:
            raise ArtifactError(
                f"GOPROXY names no proxy to fetch Go {row.version} from",
                action="set GOPROXY to a module proxy; Go's own documentation names the public one",
            )
        archive = folder / "toolchain.zip"
        for position, proxy in enumerate(proxies, 1):
            try:
                _download(ctx, replace(row, url=proxy.zip_url(_MODULE, version)), proxy, archive)
                break
            except ArtifactError as error:
                if position == len(proxies):
                    raise
                ctx.emit(Note(f"{error.what} ({error.where})"))
        with zipfile.ZipFile(archive) as files:
            files.extractall(folder)
        archive.unlink()
        (folder / f"{_MODULE}@{version}").rename(folder / "go")
        _as_installed(folder / "go")

    command = cache.entry(ctx, "go-toolchain", cache.key_of(row.hash), make) / "go" / "bin" / "go"
    return Go(command, f"go{row.version}")


def _default_proxies() -> str:
    """What an installed Go, however old, takes for GOPROXY when nobody says anything; empty without one."""
    go = shutil.which("go")
    return process.run([go, "env", "GOPROXY"], check=False, timeout=60).stdout.strip() if go else ""


def _download(ctx: Context, row: pins.Row, proxy: go_modules.Proxy, archive: Path) -> None:
    if reason := answers.silence(row.url):
        raise ArtifactError(
            reason, where=row.url, action="check GOPROXY, the network and proxy of this machine"
        )
    download.fetch(ctx, row, archive, headers=proxy.headers)


def _as_installed(goroot: Path) -> None:
    """Put back what a module's zip cannot hold, as `go` does: modes of programs, go.mod of inner modules."""
    for program in [*(goroot / "bin").iterdir(), *(goroot / "pkg" / "tool").rglob("*")]:
        program.chmod(0o755)
    for file in goroot.rglob("_go.mod"):
        file.rename(file.with_name("go.mod"))


def build(
    ctx: Context,
    go: Go,
    folder: Path,
    packages: Sequence[str],
    out: Path,
    *,
    label: str,
    ldflags: str = "-s -w",
    tags: str = "",
) -> None:
    """Build `packages` of the module in `folder` to `out` (a file, or a folder if it ends with /).

    Modules are fetched through this machine's Go proxy settings and checked against go.sum.
    Raises CommandError when a module cannot be had or does not compile.
    """
    env = go.environment()
    with progress(ctx.emit, f"modules of {label}") as advance:
        fetched = 0

        def fetch(line: str) -> None:
            nonlocal fetched
            if line.startswith("go: downloading "):
                fetched += 1
                advance(fetched)
                ctx.emit(Detail(line))

        listed = process.run(
            [go.command, "list", "-deps", "-tags", tags, *packages],
            cwd=folder,
            env=env,
            timeout=3600,
            on_line=fetch,
            where=f"modules of {label}",
            action=_PROXY,
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
            [
                *(go.command, "build", "-v", "-trimpath", "-tags", tags, "-ldflags", ldflags, "-o", out),
                *packages,
            ],
            cwd=folder,
            env=env,
            timeout=3 * 3600,
            on_line=built,
            where=f"build of {label}",
        )
        advance(total)


def module(go: Go, folder: Path, path: str) -> Path:
    """The files of a module that the go.mod in `folder` pins, fetched and checked when they are not here.

    Raises CommandError when the module cannot be had.
    """
    said = process.run(
        [go.command, "mod", "download", "-json", path],
        cwd=folder,
        env=go.environment(),
        timeout=1800,
        where=f"module {path}",
        action=_PROXY,
    )
    return Path(json.loads(said.stdout)["Dir"])


def _number(version: str) -> tuple[int, int]:
    found = re.match(r"go(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
