"""LXD through its own client `lxc`, on the machine where it runs: this one, or another over SSH."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from slipway.clients.ssh import Connection
from slipway.core.errors import CommandError, HostError
from slipway.core.process import Completed

_QUICK = 60.0
_IMAGE_SECONDS = 900.0  # a golden root is unpacked from it
_FOLDER = "/var/tmp"  # noqa: S108  # of the machine with LXD; the name of what is put there is mktemp's


@dataclass(frozen=True)
class Lxc:
    """An LXD and one of its projects. Raises HostError with LXD's own words."""

    connection: Connection
    project: str = "default"

    def of(self, project: str) -> Lxc:
        """The same LXD in another project."""
        return replace(self, project=project)

    def get(self, *path: str, **query: str) -> Any:
        """What LXD tells of a thing or a collection; path: its words below /1.0."""
        return json.loads(self._run(["query", self._address(path, query)]).stdout)

    def find(self, *path: str) -> Any:
        """The same, None where there is no such thing."""
        done = self._run(["query", self._address(path, {})], check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        if "not found" in done.output.lower():
            return None
        raise self._error(f"LXD does not tell of {'/'.join(path)}", done.output)

    def send(self, method: str, *path: str, body: Mapping[str, Any] | None = None) -> None:
        """Ask for a change and wait until it is made. body: what is sent, as JSON."""
        words = ["query", "--wait", "--request", method]
        words += ["--data", json.dumps(body)] if body is not None else []
        self._run([*words, self._address(path, {})], timeout=_IMAGE_SECONDS)

    def import_image(self, file: Path, alias: str) -> None:
        """Make an image of a tar that holds metadata.yaml and rootfs/; under this alias in the project."""
        folder = self.connection.run(
            ["mktemp", "-d", f"{_FOLDER}/slipway-XXXXXX"], timeout=_QUICK
        ).stdout.strip()
        there = f"{folder}/{file.name}"
        try:
            self.connection.stream_in(["sh", "-c", 'cat >"$0"', there], file, timeout=_IMAGE_SECONDS)
            self._run(["image", "import", there, "--alias", alias], timeout=_IMAGE_SECONDS)
        finally:
            self.connection.run(["rm", "-rf", folder], check=False, timeout=_QUICK)

    def write(self, instance: str, path: str, content: str | bytes, mode: int) -> None:
        """Put a file of root's into an instance, which need not run. path: without the first slash."""
        words = ["file", "push", "--create-dirs", "--uid=0", "--gid=0", f"--mode={mode:04o}"]
        self._run([*words, "-", f"{instance}/{path}"], input=content)

    def _address(self, path: Sequence[str], query: Mapping[str, str]) -> str:
        own = bool(path) and path[0] != "projects" and "all-projects" not in query
        asked = urlencode({**({"project": self.project} if own else {}), **query})
        return "/1.0" + "".join(f"/{quote(word, safe='')}" for word in path) + (f"?{asked}" if asked else "")

    def _run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes | None = None,
        timeout: float = _QUICK,
        check: bool = True,
    ) -> Completed:
        # the client keeps its configuration in a home, which on a bare machine it would make
        own = [] if argv[0] == "query" else ["--project", self.project]  # a query says so in its address
        words = ["env", "LXD_CONF=/run/slipway-lxc", "lxc", *own, *argv]
        try:
            return self.connection.run(words, input=input, timeout=timeout, check=check)
        except CommandError as error:
            what = "there is no LXD" if error.returncode == 127 else f"`lxc {argv[0]}` failed"
            raise self._error(what, error.output) from error

    def _error(self, what: str, said: str) -> HostError:
        return HostError(
            f"{what} on {self.connection.host.name}",
            where=self.connection.host.name,
            tail=said.strip(),
            action="`ansible-playbook playbooks/lxd.yml` sets LXD up; `lxc info` tells how it is",
        )
