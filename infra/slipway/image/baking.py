"""The image's lower part, put into a root that hosts are made from: a new model is all that is left to move.

Docker has it to build upon. A registry has its layers, and Docker knows by which digest, so that a push
finds them there and compresses nothing; containerd has them by the same digest, so that a node pulls nothing
of it. All of that comes about as it does in a lab, by a push and a pull: the digest of a layer is that of its
compressed bytes, and those are Docker's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.artifacts.cache import digest_of
from slipway.clients import ssh
from slipway.clients.docker import Docker
from slipway.clients.shell import Shell
from slipway.core.context import Context
from slipway.core.errors import CommandError
from slipway.core.events import Detail
from slipway.core.retry import wait_for
from slipway.core.schema import Settings
from slipway.core.types import Host, Registry
from slipway.image import runtime as runtimes
from slipway.image.runtime import Runtime

_ADDRESS = "127.0.0.1:5000"
_UNIT = "slipway-bake-registry"
_DATA = "/var/lib/docker-registry"  # where the role has it
_CONFIG = f"""\
version: 0.1
storage: {{filesystem: {{rootdirectory: {_DATA}}}}}
http: {{addr: "{_ADDRESS}"}}
"""
_SECONDS = 900.0


def wanted(ctx: Context, settings: Settings) -> dict[Runtime, tuple[str, ...]]:
    """The runtimes of all models, each with the repositories its images go to."""
    out: dict[Runtime, tuple[str, ...]] = {}
    for _, its in settings.each():
        runtime = runtimes.of(ctx, its)
        out[runtime] = tuple(dict.fromkeys([*out.get(runtime, ()), its.image.repository]))
    return out


def key(ctx: Context, settings: Settings) -> str:
    """What decides what `bake` puts into a host."""
    found = [f"{runtime.image} {to}" for runtime, to in wanted(ctx, settings).items()]
    return digest_of(Path(__file__).read_bytes(), str(settings.image.registry), *sorted(found))


def bake(ctx: Context, settings: Settings, host: Host) -> None:
    """Put the runtimes into this host's stores. Raises ImageError or CommandError."""

    def line(text: str) -> None:
        ctx.emit(Detail(text))

    with ssh.connect(host) as shell:
        docker = Docker(shell, host.name, line)
        shell.run(["systemctl", "start", "docker.service"])
        daemon = docker.daemon()
        found = wanted(ctx, settings)
        for runtime in found:
            runtime.build(ctx, docker, daemon)
        if "registry" in host.groups and settings.image.registry is None:
            with _registry(shell):
                for runtime, repositories in found.items():
                    for repository in repositories:
                        _move(shell, docker, runtime, repository)
        # its containers' network and rules are made anew when it starts
        shell.run(["systemctl", "stop", "docker.service", "docker.socket"])


def _move(shell: Shell, docker: Docker, runtime: Runtime, repository: str) -> None:
    name = f"{_ADDRESS}/{repository}:{runtime.image.rpartition(':')[2]}"
    docker.tag(runtime.image, name)
    docker.push(name, Registry(_ADDRESS))
    containerd = ["ctr", "--namespace", "k8s.io", "images"]
    shell.run([*containerd, "pull", "--plain-http", name], timeout=_SECONDS)
    shell.run([*containerd, "tag", "--force", name, runtime.image])
    shell.run([*containerd, "rm", name])
    shell.run(["docker", "image", "rm", name])


@contextmanager
def _registry(shell: Shell) -> Iterator[None]:
    """The distribution's registry on its data, for this host alone and without logins."""
    config = f"/run/{_UNIT}.yml"
    shell.run(["sh", "-c", f"cat >{config}"], input=_CONFIG)
    as_its_user = ["--property=User=docker-registry", "--property=Group=docker-registry"]
    shell.run(["systemd-run", "--quiet", f"--unit={_UNIT}", *as_its_user, "docker-registry", "serve", config])
    try:
        wait_for(
            "an answer of the registry",
            lambda: shell.run(["bash", "-c", f"exec 3<>/dev/tcp/{_ADDRESS.replace(':', '/')}"]),
            timeout=30,
            retry_on=(CommandError,),
        )
        yield
    finally:
        shell.run(["systemctl", "stop", f"{_UNIT}.service"], check=False)
