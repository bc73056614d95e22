"""The image's lower part: base and packages, the same for every model, made once on a build host."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway import artifacts
from slipway.artifacts.oci import EPOCH
from slipway.clients.docker import Daemon, Docker
from slipway.core import ownership
from slipway.core.context import Context
from slipway.core.events import Note
from slipway.core.lock import flock
from slipway.core.schema import Settings
from slipway.core.state import cache_folder
from slipway.image import build_context
from slipway.image.contents import Server


@dataclass(frozen=True)
class Runtime:
    """Base and packages of one server flavour. tag: named by all that decides the content."""

    base: artifacts.BaseImage
    server: Server
    tag: str

    @property
    def image(self) -> str:
        """A local name under a registry that does not exist, so Docker never tries to pull it."""
        return f"slipway.local/runtime:{self.tag[:32]}"

    def packages(self, ctx: Context) -> Path:
        """The context of base and packages; a new one where it is not cached."""
        packed = cache_folder(ctx.cache, "image") / f"{self.tag}.tar.gz"
        ownership.require_own("the image's cached packages", packed)
        if packed.is_file():
            return packed
        waiting = Note("the image's packages are being unpacked already; waiting for that")
        # by another run, or by this one's preparation beside the stage that asks
        with flock(
            packed.parent, "who unpacks the image's packages", timeout=None, on_wait=lambda: ctx.emit(waiting)
        ):
            if not packed.is_file():
                with timed(ctx, "", "the image's packages are unpacked and cut down"):
                    wheels = artifacts.wheels(ctx, build_context.LOCK, self.base.python)
                    build_context.write_runtime(packed, wheels, self.server)
                _keep_newest(packed.parent)
        return packed

    def build(self, ctx: Context, docker: Docker, daemon: Daemon) -> None:
        """Make the image on this host. Raises ImageError."""
        packed = self.packages(ctx)
        if self.base.archive is not None and not docker.has(self.base.reference):
            with timed(ctx, docker.where, f"base image {self.base.reference} is imported"):
                docker.import_root(self.base.archive, self.base.reference)
        with timed(ctx, docker.where, f"packages are in {self.image}"):
            docker.build(
                packed,
                self.image,
                arguments=arguments(daemon, BASE=self.base.reference),
                buildkit=daemon.buildkit,
            )


def of(ctx: Context, settings: Settings) -> Runtime:
    """The runtime these settings ask for. The base image is made when it is not cached."""
    base, server = artifacts.base_image(ctx, settings), settings.image.server
    tag = build_context.runtime_tag(base.reference, build_context.LOCK, server, platform.machine())
    return Runtime(base, server, tag)


def arguments(daemon: Daemon, **arguments: str) -> dict[str, str]:
    """Build arguments, with the time that files of the image have."""
    # The classic builder does not know it and would warn.
    return arguments | ({"SOURCE_DATE_EPOCH": str(EPOCH)} if daemon.buildkit else {})


@contextmanager
def timed(ctx: Context, where: str, done: str) -> Iterator[None]:
    """Tell what was done, and how long it took."""
    begin = time.monotonic()
    yield
    ctx.emit(Note(f"{done} ({time.monotonic() - begin:.1f} s)", host=where))


def _keep_newest(folder: Path, count: int = 3) -> None:
    """Contexts are 220 MB each and made again in seconds."""
    found = sorted(folder.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)
    for old in found[:-count]:
        old.unlink(missing_ok=True)  # another lab may do the same
