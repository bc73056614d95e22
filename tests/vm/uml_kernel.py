"""A kernel of User-mode Linux: the distribution's own package, in the cache like every artifact.

It is there in seconds, has one processor and no cpuset, and tells no clock rate, without which no kubelet runs: a machine for
what needs no Kubernetes. What the cache has is taken whatever is newer by now; `slipway clean` has it fetched anew.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.artifacts import cache
from slipway.core import process
from slipway.core.context import Context

_NAME = "uml-package"
_KEY = "0"  # raised when what is kept of the package changes


@dataclass(frozen=True)
class Kernel:
    """program: the kernel. modules: what belongs into /usr/lib/modules. version: changes with either."""

    program: Path
    modules: Path
    version: str


def packaged(ctx: Context) -> Kernel:
    """The kernel, from the cache or the archive. Raises CommandError where that has no such package."""
    found = _newest(ctx)
    if found is not None:
        return found

    def unpack(to: Path) -> None:
        process.run(["dpkg-deb", "--extract", package, scratch / "root"], timeout=300)
        shutil.copy2(scratch / "root/usr/bin/linux.uml", to / "linux")
        shutil.copytree(scratch / "root/usr/lib/uml/modules", to / "modules")

    with _scratch(ctx) as scratch:
        process.run(["apt-get", "download", "--quiet", "user-mode-linux"], cwd=scratch, timeout=300)
        package = cache.only(list(scratch.glob("*.deb")), "package", scratch)
        version = package.name.split("_")[1].replace("%3a", ".")
        return _kernel(cache.entry(ctx, f"{_NAME}-{version}", _KEY, unpack))


def _newest(ctx: Context) -> Kernel | None:
    """Of the whole ones in the cache that which was made last."""
    there = sorted(
        cache.home(ctx).glob(f"{_NAME}-*-{_KEY}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for folder in there:
        if cache.find(ctx, folder.name.removesuffix(f"-{_KEY}"), _KEY) is not None:
            return _kernel(folder)
    return None


@contextmanager
def _scratch(ctx: Context) -> Iterator[Path]:
    ctx.run.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=ctx.run) as folder:
        yield Path(folder)


def _kernel(folder: Path) -> Kernel:
    return Kernel(folder / "linux", folder / "modules", folder.name)
