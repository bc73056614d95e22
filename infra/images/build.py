"""From a model to an image in the registry: what is to build, on which host, and the steps there."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra import artifacts
from infra.artifacts.oci import EPOCH
from infra.clients import registry as registries
from infra.clients import ssh
from infra.clients.docker import Daemon, Docker, Here
from infra.cluster.registry import in_use
from infra.core.context import Context
from infra.core.errors import ImageError, UsageError
from infra.core.events import Detail, Note
from infra.core.schema import Settings
from infra.core.types import Cluster, ExportedModel, Hosts, ImageRef, Registry
from infra.images import context
from infra.images.check import run_and_ask

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Wanted:
    """The image that these settings and this model ask for, named by its content."""

    registry: Registry
    repository: str
    base: artifacts.BaseImage
    runtime: str
    tag: str
    model: ExportedModel
    code: Mapping[str, bytes] = field(repr=False)
    settings: Settings = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.registry.address}/{self.repository}:{self.tag}"

    @property
    def runtime_image(self) -> str:
        """Only on the build host; of a registry that does not exist, so that none is ever asked for it."""
        return f"slipway.local/runtime:{self.runtime[:32]}"

    @property
    def local_image(self) -> str:
        """Under this name the image is built and checked; the registry's is given to it after that."""
        return f"slipway.local/serving:{self.tag}"

    @property
    def labels(self) -> dict[str, str]:
        return {
            "org.opencontainers.image.title": self.model.name,
            "org.opencontainers.image.version": str(self.model.version),
            "slipway.model.name": self.model.name,
            "slipway.model.version": str(self.model.version),
            "slipway.model.sha256": self.model.sha256,
            "slipway.server": self.settings.image.server,
            "slipway.version": importlib.metadata.version("slipway"),
        }

    def reference(self, digest: str) -> ImageRef:
        return ImageRef(
            repository=f"{self.registry.address}/{self.repository}",
            digest=digest,
            tag=self.tag,
            server=self.settings.image.server,
            model_name=self.model.name,
            model_version=self.model.version,
            model_sha256=self.model.sha256,
        )


def registry_of(settings: Settings, cluster: Cluster) -> Registry:
    """The registry images go to: the user's own, else the lab's. Raises UsageError when there is none."""
    found = in_use(settings, cluster)
    if found is None:
        raise UsageError(
            "there is no registry to push the image to",
            action="set image.registry (with image.username and image.password_file), or put a host into the "
            "inventory group registry",
        )
    return found


def wanted(ctx: Context, settings: Settings, cluster: Cluster, model: ExportedModel) -> Wanted:
    """Name the image by all that decides its content. The base image is made when it is not cached."""
    base = artifacts.base_image(ctx, settings)
    server = settings.image.server
    runtime = context.runtime_tag(base.reference, context.LOCK, server, platform.machine())
    code = context.sources()
    tag = context.server_tag(runtime, server, code, model)
    return Wanted(
        registry_of(settings, cluster), settings.image.repository, base, runtime, tag, model, code, settings
    )


def in_registry(want: Wanted) -> str | None:
    """The digest of exactly this image in the registry; None when it is not there.

    A tag that someone gave to an image of another model does not count. Raises ImageError when the
    registry cannot be asked.
    """
    digest = registries.manifest_digest(want.registry, want.repository, want.tag)
    if digest is None:
        return None
    labels = registries.labels(want.registry, want.repository, digest) or {}
    return digest if labels.get("slipway.model.sha256") == want.model.sha256 else None


@contextmanager
def build_host(ctx: Context, settings: Settings, hosts: Hosts | None) -> Iterator[Docker]:
    """Docker on the host that builds: image.build_host, the first of group docker, else this machine."""

    def line(text: str) -> None:
        ctx.emit(Detail(text))

    machines = hosts.hosts if hosts is not None else ()
    named = settings.image.build_host
    chosen = next((host for host in machines if named in (host.name, None) and "docker" in host.groups), None)
    if named is not None:
        chosen = next((host for host in machines if host.name == named), None)
        if chosen is None:
            raise UsageError(
                f"image.build_host is {named}, which is no host of this lab",
                action=f"hosts are: {', '.join(host.name for host in machines) or 'none'}",
            )
    if chosen is not None and hosts is not None:
        with ssh.connect(chosen, hosts.identity) as connection:
            yield Docker(connection, chosen.name, line)
        return
    here = Docker(Here(), "this machine", line)
    try:
        here.daemon()
    except ImageError as error:
        raise ImageError(
            "there is no host to build the image on: none is in group docker, and this machine has no Docker",
            tail=error.what,
            action="put a host into the inventory group docker (hosts.backend: ssh), or install Docker here",
        ) from error
    ctx.emit(Note("no host is in group docker: the image is built with Docker on this machine"))
    yield here


def make(ctx: Context, want: Wanted, docker: Docker) -> str:
    """Build the image, have it answer, push it; returns the digest, which the registry confirms.

    What was built stays on the host as Docker's cache; a container and a login do not.
    """
    daemon = docker.daemon()
    _same_architecture(daemon, docker.where)
    server, model = want.settings.image.server, want.model
    log = ctx.evidence("image-build.log")
    log.write_text("", encoding="utf-8")
    if not docker.has(want.runtime_image):
        _runtime(ctx, want, docker, daemon)
    with _timed(ctx, docker.where, f"image {want.tag} is built"):
        packed = ctx.state.image / f"{want.tag}.tar.gz"
        context.write_server(packed, server, want.code, model)
        for old in set(ctx.state.image.glob("*.tar.gz")) - {packed}:
            old.unlink()
        printed = docker.build(
            packed,
            want.local_image,
            arguments=_arguments(daemon, RUNTIME=want.runtime_image, MODEL_NAME=model.name),
            labels=want.labels,
            buildkit=daemon.buildkit,
            network="none" if server == "portable" else "default",
            action=""
            if server == "portable"
            else "Google's server comes from Docker Hub's debian and storage.googleapis.com, which the build "
            "host must reach; image.server: portable needs neither",
        )
        log.write_text(printed, encoding="utf-8")
    with _timed(ctx, docker.where, "it answered the export's fixed requests under Docker"):
        run_and_ask(ctx, docker, want.local_image, model)
    with _timed(ctx, docker.where, f"{want.name} is pushed"):
        docker.trust(want.registry)
        docker.tag(want.local_image, want.name)
        pushed = docker.push(want.name, want.registry)
        return _confirmed(want, pushed)


def _runtime(ctx: Context, want: Wanted, docker: Docker, daemon: Daemon) -> None:
    server = want.settings.image.server
    packed = ctx.cache / "image" / f"{want.runtime}.tar.gz"
    if not packed.is_file():
        with _timed(ctx, "", "the image's packages are unpacked and cut down"):
            wheels = artifacts.wheels(ctx, context.LOCK, want.base.python)
            context.write_runtime(packed, wheels, server)
        _keep_newest(packed.parent)
    if want.base.archive is not None and not docker.has(want.base.reference):
        with _timed(ctx, docker.where, f"base image {want.base.reference} is imported"):
            docker.import_root(want.base.archive, want.base.reference)
    with _timed(ctx, docker.where, f"packages are in {want.runtime_image}"):
        docker.build(
            packed,
            want.runtime_image,
            arguments=_arguments(daemon, BASE=want.base.reference),
            buildkit=daemon.buildkit,
        )


def _keep_newest(folder: Path, count: int = 3) -> None:
    """Contexts are 220 MB each and made again in seconds."""
    found = sorted(folder.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)
    for old in found[:-count]:
        old.unlink(missing_ok=True)  # another lab may do the same


def _arguments(daemon: Daemon, **arguments: str) -> dict[str, str]:
    # The classic builder does not know it and would warn.
    return arguments | ({"SOURCE_DATE_EPOCH": str(EPOCH)} if daemon.buildkit else {})


def _same_architecture(daemon: Daemon, where: str) -> None:
    ours = _ARCHITECTURES.get(platform.machine(), platform.machine())
    if daemon.architecture != ours:
        raise ImageError(
            f"the build host is {daemon.architecture} and this machine, whose packages go in, is {ours}",
            where=where,
            action="name a build host of this machine's architecture in image.build_host",
        )


def _confirmed(want: Wanted, pushed: str) -> str:
    found = registries.manifest_digest(want.registry, want.repository, want.tag)
    if found != pushed:
        raise ImageError(
            f"docker pushed {want.name} as {pushed}, the registry has {found or 'nothing'} under that tag",
            where=want.registry.address,
            action="run again; if it stays so, someone else pushes the same tag",
        )
    return pushed


@contextmanager
def _timed(ctx: Context, where: str, done: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    ctx.emit(Note(f"{done} ({time.monotonic() - begin:.1f} s)", host=where))
