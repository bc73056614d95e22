"""Docker's own client on a build host: over SSH, or on this machine where a daemon answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_stacks import outputs

from slipway.clients.shell import Shell
from slipway.core import registries
from slipway.core.errors import CommandError, ImageError, SlipwayError
from slipway.core.process import Completed
from slipway.core.types import Registry
from slipway.core.user_files import text_of

_QUICK = 60.0  # seconds for what only asks the daemon
_LONG = 1800.0  # seconds for a build, an import or a push
# What the deployment's pods get as securityContext (outputs.pod_security, container_security), as flags;
# no privilege and a seccomp profile are Docker's own defaults
_LOCKED_UP = (
    *("--user", f"{outputs.USER}:{outputs.USER}"),
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
_PUSHED = re.compile(r"digest: (sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Daemon:
    """The daemon that answers.

    architecture as Docker names it ("amd64"); buildkit: docker-buildx is there.
    """

    version: str
    architecture: str
    buildkit: bool


@dataclass(frozen=True)
class ContainerState:
    """running, or the exit code it ended with."""

    running: bool
    exit_code: int
    error: str = ""


@dataclass(frozen=True)
class Docker:
    """Docker on one host. Every failure is an ImageError with the host, the tail and what to do."""

    shell: Shell
    where: str
    on_line: Callable[[str], None] | None = None

    def daemon(self) -> Daemon:
        """Ask the daemon who it is. Raises ImageError when docker is missing or no daemon answers."""
        if self.shell.run(["sh", "-c", "command -v docker"], timeout=_QUICK, check=False).returncode != 0:
            raise ImageError(
                "docker is not installed on the build host",
                where=self.where,
                action="run `slipway provision` (group docker), or name another host in image.build_host",
            )
        done = self._do(
            ["version", "--format", "{{json .Server}}"],
            "no Docker daemon answers on the build host",
            "look at `journalctl -u docker` there, start it with `systemctl start docker`",
            timeout=_QUICK,
        )
        server = json.loads(done.stdout)
        plugin = self.shell.run(["docker", "buildx", "version"], timeout=_QUICK, check=False)
        return Daemon(str(server["Version"]), str(server["Arch"]), plugin.returncode == 0)

    def has(self, reference: str) -> bool:
        """Whether the host has this image."""
        done = self.shell.run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", reference], timeout=_QUICK, check=False
        )
        return done.returncode == 0

    def import_root(self, archive: Path, reference: str) -> None:
        """Make an image of one layer from a root tar, possibly gzipped. A broken stream leaves no image."""
        self._stream(["docker", "import", "-", reference], archive, "docker cannot import the base image")

    def build(
        self,
        context: Path,
        tag: str,
        *,
        arguments: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        buildkit: bool = True,
    ) -> str:
        """Build a context (a gzipped tar with its Dockerfile) and return what the builder printed.

        There is no network: an instruction that reaches out fails. On failure the tag is what it was before.
        """
        # Without attestations what is pushed is one manifest, whose digest is the image's.
        words = ["env", f"DOCKER_BUILDKIT={int(buildkit)}", "BUILDX_NO_DEFAULT_ATTESTATIONS=1", "docker"]
        words += ["build", "--network", "none", "--tag", tag]
        words += ["--progress=plain"] if buildkit else []
        for name, value in arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        for name, value in (labels or {}).items():
            words += ["--label", f"{name}={value}"]
        done = self._stream(
            [*words, "-"],
            context,
            "the image cannot be built",
            "the lines above name the instruction",
        )
        return f"{done.stdout}{done.stderr}"

    def output(self, reference: str, argv: Sequence[str]) -> str:
        """What a program of the image prints, run without a network and locked up as in the cluster."""
        entry, *rest = argv
        words = ["run", "--rm", "--pull", "never", "--network", "none", *_LOCKED_UP]
        return self._do(
            [*words, "--entrypoint", entry, reference, *rest],
            f"{entry} of {reference} cannot be run",
            "",
            timeout=_QUICK,
        ).stdout

    @contextmanager
    def running(self, reference: str, name: str, *, port: int, to: int) -> Iterator[None]:
        """The image as a container, as locked up as in the cluster; removed at the end whatever happens.

        127.0.0.1:port of the host leads to the container's port `to`. A container of this name that an
        earlier run left behind is removed first.
        """
        self.remove(name)
        try:
            self._do(
                [
                    *("run", "--detach", "--name", name, "--pull", "never"),
                    *_LOCKED_UP,
                    *("--tmpfs", "/tmp"),  # noqa: S108  # in the container
                    *("--publish", f"127.0.0.1:{port}:{to}", reference),
                ],
                "the image's container cannot be started",
                f"if port {port} is taken there, stop what uses it; else read `journalctl -u docker`",
                timeout=_QUICK,
            )
            yield
        finally:
            with suppress(SlipwayError):  # a lost connection must not hide what happened in the block
                self.remove(name)

    def remove(self, name: str) -> None:
        """Stop and remove a container; one that does not exist is fine."""
        done = self.shell.run(["docker", "rm", "--force", "--volumes", name], timeout=_QUICK, check=False)
        if done.returncode != 0 and "No such container" not in done.output:
            raise ImageError(
                f"cannot remove the container {name}",
                where=self.where,
                tail=done.output,
                action=f"remove it by hand: docker rm --force {name}",
            )

    def state(self, name: str) -> ContainerState:
        """Whether a container runs, and how it ended."""
        found = self._inspect(["inspect", "--format", "{{json .State}}", name])
        return ContainerState(bool(found["Running"]), int(found["ExitCode"]), str(found.get("Error", "")))

    def logs(self, name: str, lines: int = 200) -> str:
        """The last lines a container printed, stdout and stderr; empty when they cannot be had."""
        done = self.shell.run(["docker", "logs", "--tail", str(lines), name], timeout=_QUICK, check=False)
        return f"{done.stdout}{done.stderr}".strip() if done.returncode == 0 else ""

    def layers(self, reference: str) -> tuple[int, ...]:
        """The sizes of an image's layers in bytes, unpacked, the base first; empty ones left out."""
        done = self._do(
            ["history", "--human=false", "--format", "{{.Size}}", reference],
            f"cannot look into {reference}",
            "",
            timeout=_QUICK,
        )
        sizes = [int(line) for line in done.stdout.split()]
        return tuple(size for size in reversed(sizes) if size)

    def tag(self, reference: str, name: str) -> None:
        """Give an image another name."""
        self._do(["tag", reference, name], f"cannot tag {reference} as {name}", "", timeout=_QUICK)

    def trust(self, registry: Registry) -> bool:
        """Have the daemon trust the registry's CA; returns whether something had to be written."""
        if registry.ca_file is None:
            return False
        path = f"/etc/docker/certs.d/{registry.address}/ca.crt"
        wanted = text_of(registry.ca_file, action="image.ca_file must be a PEM file with the registry's CA")
        there = self.shell.run(["cat", path], timeout=_QUICK, check=False)
        if there.returncode == 0 and there.stdout == wanted:
            return False
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1"'
        self._run(
            ["sh", "-c", script, "sh", path],
            f"cannot write {path}",
            "check disk space there",
            timeout=_QUICK,
            input=wanted,
        )
        return True

    def push(self, name: str, registry: Registry) -> str:
        """Log in, push, log out; returns the digest that docker says it pushed.

        The login lives in a folder of its own that is removed whatever happens: the host's own
        ~/.docker/config.json is neither read nor written.
        """
        done = self._run(
            ["mktemp", "-d"], "cannot make a folder for the login", "check disk space there", timeout=_QUICK
        )
        config = done.stdout.strip()
        try:
            if registry.username is not None and registry.password_file is not None:
                self._login(config, registry)
            pushed = self._do(
                ["--config", config, "push", name],
                f"cannot push {name}",
                "check that the registry runs, has room, and that this login may write there",
                timeout=_LONG,
            )
        finally:
            with suppress(SlipwayError):  # a lost connection must not hide what happened in the block
                self.shell.run(
                    ["docker", "--config", config, "logout", registry.address], timeout=_QUICK, check=False
                )
                self.shell.run(["rm", "-rf", "--", config], timeout=_QUICK, check=False)
        digests = _PUSHED.findall(pushed.stdout)
        if not digests:
            raise ImageError(
                f"docker pushed {name} and named no digest",
                where=self.where,
                tail=pushed.stdout,
                action="push it by hand and look at what docker says",
            )
        return str(digests[-1])

    def _login(self, config: str, registry: Registry) -> None:
        assert registry.username is not None and registry.password_file is not None
        password = registries.password(registry)
        self._do(
            [
                *("--config", config, "login", "--username", registry.username),
                *("--password-stdin", registry.address),
            ],
            f"the registry {registry.address} cannot be logged in to as {registry.username}",
            "check image.username, image.password_file and image.ca_file, and that this host reaches it",
            timeout=_QUICK,
            input=password,
        )

    def _inspect(self, words: list[str]) -> dict[str, Any]:
        done = self._do(words, f"docker cannot inspect {words[-1]}", "", timeout=_QUICK)
        found = json.loads(done.stdout)
        return found if isinstance(found, dict) else {}

    def _do(
        self, words: list[str], what: str, action: str, *, timeout: float, input: str | None = None
    ) -> Completed:
        return self._run(["docker", *words], what, action, timeout=timeout, input=input)

    def _run(
        self, words: list[str], what: str, action: str, *, timeout: float, input: str | None = None
    ) -> Completed:
        try:
            return self.shell.run(words, input=input, timeout=timeout, on_line=self.on_line)
        except CommandError as error:
            raise self._failed(error, what, action) from error

    def _stream(self, words: list[str], local: Path, what: str, action: str = "") -> Completed:
        try:
            done = self.shell.stream_in(words, local, timeout=_LONG, check=False)
        except CommandError as error:
            raise self._failed(error, what, action) from error
        if done.returncode != 0:
            # A builder says on stderr that it failed and on stdout, or there too, why.
            both = f"{done.stdout.rstrip()}\n{done.stderr.strip()}"
            raise self._failed(CommandError(done.argv, done.returncode, both), what, action)
        return done

    def _failed(self, error: CommandError, what: str, action: str) -> ImageError:
        return ImageError(
            what,
            where=self.where,
            tail=error.output,
            action=action or "look at `journalctl -u docker` on that host (disk space, storage driver)",
        )
