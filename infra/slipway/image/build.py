"""From a model to an image in the registry: what is to build, on which host, and the steps there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from slipway import artifacts
from slipway.artifacts import machine, pins
from slipway.artifacts.cache import sha256_of
from slipway.clients import registry as registries
from slipway.clients import ssh
from slipway.clients.docker import Daemon, Docker
from slipway.clients.shell import Here
from slipway.core import project
from slipway.core.context import Context
from slipway.core.errors import ImageError, UsageError
from slipway.core.events import Detail, Note
from slipway.core.registries import in_use
from slipway.core.schema import Settings
from slipway.core.types import Cluster, ExportedModel, Hosts, ImageRef, Registry, Servable
from slipway.image import build_context, origin, own_wheels, signing
from slipway.image import runtime as runtimes
from slipway.image.bill import LISTING, Material
from slipway.image.provenance import Inputs
from slipway.image.runtime import Runtime, arguments, timed
from slipway.image.trial import run_and_ask

BESIDE = "slipway.models.beside"  # label: what the image serves beside its model


@dataclass(frozen=True)
class Wanted:
    """The image that these settings and this model ask for, named by its content."""

    registry: Registry
    repository: str
    runtime: Runtime
    tag: str
    model: ExportedModel
    code: Mapping[str, bytes] = field(repr=False)
    settings: Settings = field(repr=False)
    inputs: Inputs

    @property
    def name(self) -> str:
        return f"{self.registry.address}/{self.repository}:{self.tag}"

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
            **self._beside_label,
            "slipway.server": self.settings.image.server,
            "slipway.version": project.version(),
            **self.inputs.labels,
        }

    @property
    def _beside_label(self) -> dict[str, str]:
        told = " ".join(f"{one.name}/{one.version}@sha256:{one.sha256}" for one in self.model.beside)
        return {BESIDE: told} if told else {}

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels are those of an image of these models."""
        wanted = self.labels
        return all(labels.get(key) == wanted.get(key) for key in ("slipway.model.sha256", BESIDE))

    def reference(self, digest: str) -> ImageRef:
        return ImageRef(
            repository=f"{self.registry.address}/{self.repository}",
            digest=digest,
            tag=self.tag,
            server=self.settings.image.server,
            model_name=self.model.name,
            model_version=self.model.version,
            model_sha256=self.model.sha256,
            beside=tuple(Servable(one.name, one.version, one.sha256) for one in self.model.beside),
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
    runtime = runtimes.of(ctx, settings)
    server, base = runtime.server, runtime.base
    code = own_wheels.files(server)
    program = artifacts.tensorflow_server_key(ctx, settings) if server == "tensorflow" else ""
    tag = build_context.server_tag(runtime.tag, server, code, model, program)
    inputs = Inputs(
        project.revision(),
        sha256_of(build_context.LOCK),
        sha256_of(pins.PATH),
        (base.reference, base.digest),
    )
    return Wanted(
        registry_of(settings, cluster),
        settings.image.repository,
        runtime,
        tag,
        model,
        code,
        settings,
        inputs,
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
    return digest if want.holds(labels) else None


def up_to_date(ctx: Context, want: Wanted) -> str | None:
    """The digest of exactly this image in the registry, if its origin is proved there by the key in use.

    Raises ImageError when the registry cannot be asked.
    """
    digest = in_registry(want)
    key = signing.kept_key(ctx.state, want.settings)
    if digest is None or key is None:
        return None
    try:
        origin.verify(registries.Repository(want.registry, want.repository), want.name, digest, key)
    except origin.Unproved as error:
        ctx.emit(
            Note(f"{error.what}: {'; '.join(error.tail.splitlines())}; the image is made and signed anew")
        )
        return None
    return digest


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
                f"image.build_host is {named}, which is not a host of this lab",
                action=f"hosts are: {', '.join(host.name for host in machines) or 'none'}",
            )
    if chosen is not None and hosts is not None:
        with ssh.connect(chosen) as connection:
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
    """Build the image, have it answer, push and sign it; returns the digest, which the registry confirms.

    What was built stays on the host as Docker's cache; a container and a login do not.
    """
    daemon = docker.daemon()
    _same_architecture(daemon, docker.where)
    server, model = want.settings.image.server, want.model
    ctx.keep_evidence("image-build.log", "")
    if not docker.has(want.runtime.image):
        want.runtime.build(ctx, docker, daemon)
    with timed(ctx, docker.where, f"image {want.tag} is built"):
        packed = ctx.state.image / f"{want.tag}.tar.gz"
        program = artifacts.tensorflow_server(ctx, want.settings) if server == "tensorflow" else None
        build_context.write_server(packed, server, want.code, model, program)
        for old in set(ctx.state.image.glob("*.tar.gz")) - {packed}:
            old.unlink()
        printed = docker.build(
            packed,
            want.local_image,
            arguments=arguments(daemon, RUNTIME=want.runtime.image, MODEL_NAME=model.name),
            labels=want.labels,
            buildkit=daemon.buildkit,
        )
        ctx.keep_evidence("image-build.log", printed)
    with timed(ctx, docker.where, "it answered the export's fixed requests under Docker"):
        run_and_ask(ctx, docker, want.local_image, model)
    with timed(ctx, docker.where, f"{want.name} is pushed"):
        docker.trust(want.registry)
        docker.tag(want.local_image, want.name)
        digest = _confirmed(want, docker.push(want.name, want.registry))
    with timed(ctx, "", "its bill of materials, provenance and signature are beside it"):
        key = signing.private_key(ctx.state, want.settings)
        wheels = artifacts.wheels(ctx, build_context.LOCK, want.runtime.base.python)
        listing = docker.output(want.local_image, LISTING)
        material = Material(want.reference(digest), listing, wheels, want.inputs.base)
        repository = registries.Repository(want.registry, want.repository)
        origin.sign(ctx, repository, key, material, want.inputs)
    return digest


def _same_architecture(daemon: Daemon, where: str) -> None:
    ours = machine.architecture()
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
