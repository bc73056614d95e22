"""kubectl: what the cluster is asked and told, and what its failures mean."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from slipway.core import process
from slipway.core.errors import CommandError
from slipway.core.process import Completed
from slipway.core.state import cache_home
from slipway.core.types import Cluster

Manifest = dict[str, Any]
Reason = Literal[
    "kubeconfig",
    "plugin_missing",
    "plugin_failed",
    "login",
    "unreachable",
    "denied",
    "not_found",
    "conflict",
    "invalid",
    "other",
]

PAGE = 500  # objects; as kubectl asks for them itself

# What kubectl prints -> why, in the order they are looked for. The words are client-go's and the API
# server's own; kubectl has one exit code for all of them.
_REASONS: tuple[tuple[Reason, str], ...] = (
    (
        "kubeconfig",  # without a cluster in it kubectl asks localhost:8080
        r"current-context must exist|context was not found|cannot locate|error loading config file"
        r"|error: stat |localhost:8080",
    ),
    # a kubeconfig may name a program that logs in; these are client-go's words for one that is not there
    (
        "plugin_missing",
        r"credential plugin that is not installed|exec: executable \S+ not found|executable file not found"
        r"|no Auth Provider found|auth plugin has been removed",
    ),
    ("plugin_failed", r"getting credentials:|exec plugin:"),
    ("not_found", r"\(NotFound\)|not found\b"),
    ("conflict", r"\(Conflict\)|conflicts? with|Apply failed with \d+ conflict|\(AlreadyExists\)"),
    ("login", r"\(Unauthorized\)|You must be logged in|asked for the client to provide credentials"),
    ("denied", r"\(Forbidden\)|is forbidden"),
    ("invalid", r"\(Invalid\)|is invalid|\(BadRequest\)|strict decoding error|error validating"),
    (
        "unreachable",
        r"was refused|connection refused|no such host|i/o timeout|no route to host|TLS handshake"
        r"|certificate|context deadline exceeded|Unable to connect|EOF|no end after",
    ),
)
_PLUGIN = (
    r'exec: (?:executable |fork/exec |")([^\s":]+)|Auth Provider found for name "(\w+)"|the (\w+) auth plugin'
)
_ACTIONS: dict[Reason, str] = {
    "kubeconfig": "name a kubeconfig that exists and a context in it: cluster.kubeconfig and cluster.context",
    "plugin_missing": "install {plugin}, the program by which this kubeconfig logs in, or use a kubeconfig "
    "with a token or a certificate",
    "plugin_failed": "log in anew with {plugin}, by which this kubeconfig does: its own login may have ended",
    "login": "the cluster does not take the kubeconfig's login, which may have ended: log in anew, or get a "
    "new kubeconfig where you got this one",
    "unreachable": "check that the cluster runs and that the kubeconfig names its address: `slipway status`",
    "denied": "the kubeconfig's user lacks this right: use one that may, or ask the cluster's owner for it",
    "not_found": "something else removed it, or it was never made: `slipway status` tells what is there",
    "conflict": "another tool changed or owns it; change it there, or run the same command again",
    "invalid": "correct what the message names",
    "other": "`slipway env` gives a shell with this kubectl and kubeconfig, to try the command above by hand",
}


class KubectlError(CommandError):
    """kubectl failed. reason: why, as far as its words tell."""

    def __init__(self, error: CommandError, server: str) -> None:
        reason = _reason(error.output)
        action = _ACTIONS[reason].format(plugin=_plugin(error.output))
        super().__init__(error.argv, error.returncode, error.output, where=server, action=action)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Change:
    """One object of a cluster that differs: verb create, change, replace or remove; fields tell where."""

    verb: str
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def line(self) -> str:
        """The change as people read it."""
        detail = f": {'; '.join(self.fields[:4])}" if self.fields else ""
        more = f"; and {len(self.fields) - 4} more" if len(self.fields) > 4 else ""
        return f"{self.verb} {self.kind} {self.name}{detail}{more}"


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields in which two readings of an object differ, each as `path: old -> new`."""
    return tuple(_differences("", old, new))


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(f"{path}.{key}".lstrip("."), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{number}]", one, other)
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "unset" if value is None else json.dumps(value) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


@dataclass(frozen=True)
class Kubectl:
    """One client binary for one cluster; ~/.kube is neither read nor written."""

    binary: Path
    kubeconfig: Path
    context: str | None = None

    @classmethod
    def of(cls, cluster: Cluster) -> Kubectl:
        """The client of a cluster."""
        return cls(cluster.kubectl, cluster.kubeconfig, cluster.context)

    @property
    def environment(self) -> dict[str, str]:
        """What every command of it has in its environment."""
        return _environment()

    def argv(self, args: Sequence[str]) -> list[str]:
        """The whole command line of `kubectl ARGS` against this cluster."""
        words = [str(self.binary), f"--kubeconfig={self.kubeconfig}"]
        if self.context is not None:
            words.append(f"--context={self.context}")
        return [*words, *args]

    def run(
        self,
        args: Sequence[str],
        input: str | None = None,
        timeout: float = 60.0,
        *,
        check: bool = True,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run `kubectl ARGS`; input goes to its stdin, the place for manifests and secrets.

        Raises KubectlError when it fails (and `check`) or takes more than `timeout` seconds.
        """
        try:
            return process.run(
                self.argv(args),
                input=input,
                timeout=timeout,
                check=check,
                env={**_environment(), **(env or {})},
            )
        except CommandError as error:
            raise KubectlError(error, f"kubectl, {self.kubeconfig}") from error

    def get(
        self,
        kind: str,
        name: str | None = None,
        *,
        namespace: str | None = None,
        selector: str | None = None,
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """One object, or a list's {"items": [...]} without a name. Raises KubectlError; see `find`."""
        args = ["get", kind, *([name] if name else []), "-o", "json"]
        args += ["-n", namespace] if namespace else []
        args += ["-l", selector] if selector else []
        answer: dict[str, Any] = json.loads(self.run(args, timeout=timeout).stdout)
        return answer

    def pages(self, path: str, selector: str = "", *, timeout: float = 60.0) -> Iterator[dict[str, Any]]:
        """A list of the API, by its path, in parts of at most PAGE objects, each as the API gives it.

        The objects of a list have no kind of their own. Raises KubectlError.
        """
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            page: dict[str, Any] = json.loads(
                self.run(["get", "--raw", f"{path}?{urlencode(query)}"], timeout=timeout).stdout
            )
            yield page
            if not (rest := page["metadata"].get("continue")):
                return
            query["continue"] = rest

    def find(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None when it does not exist."""
        args = ["get", kind, name, "-o", "json", "--show-managed-fields", "--ignore-not-found"]
        text = self.run([*args, *(["-n", namespace] if namespace else [])], timeout=30).stdout
        return json.loads(text) if text.strip() else None

    def apply(
        self,
        manifests: Sequence[Manifest],
        *,
        field_manager: str = "slipway",
        force: bool = False,
        applyset: str | None = None,
        namespace: str | None = None,
        timeout: float = 120.0,
    ) -> Completed:
        """Server-side apply, manifests through stdin.

        With `applyset` (kind/name, in `namespace`) objects that an earlier apply of the same set made
        and this one no longer has are removed. A field another manager owns is a conflict unless
        `force` takes it. Raises KubectlError; objects before the failing one stay applied.
        """
        args = ["apply", "--server-side", f"--field-manager={field_manager}", "-f", "-"]
        args += ["--force-conflicts"] if force else []
        args += ["-n", namespace] if namespace else []
        env = {}
        if applyset is not None:
            args += ["--prune", f"--applyset={applyset}"]
            env["KUBECTL_APPLYSET"] = "true"
        return self.run(args, input=as_list(manifests), timeout=timeout, env=env)

    @contextlib.contextmanager
    def port_forward(
        self, namespace: str, pod: str, port: int, timeout: float = 20.0
    ) -> Iterator[tuple[str, int]]:
        """A local (host, port) that leads to a pod's port as long as the block runs."""
        argv = self.argv(["port-forward", "-n", namespace, f"pod/{pod}", f":{port}", "--address=127.0.0.1"])
        pattern = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")
        try:
            with process.running(argv, ready=pattern.search, timeout=timeout, env=_environment()) as line:
                match = pattern.search(line)
                assert match is not None  # `ready` accepted the line
                yield "127.0.0.1", int(match[1])
        except CommandError as error:
            raise KubectlError(error, f"pod {namespace}/{pod}, port {port}") from error


def _environment() -> dict[str, str]:
    # discovery is cached beside our downloads, not in ~/.kube, and a kuberc there could carry aliases
    # and default flags of the user's own
    return {"KUBECACHEDIR": str(cache_home() / "kubectl"), "KUBECTL_KUBERC": "false"}


def _reason(output: str) -> Reason:
    for reason, pattern in _REASONS:
        if re.search(pattern, output):
            return reason
    return "other"


def _plugin(output: str) -> str:
    """The program that was to log in, as client-go names it."""
    found = re.search(_PLUGIN, output)
    return next((name for name in found.groups() if name), "") if found else "the credential plugin"


def as_list(manifests: Sequence[Manifest]) -> str:
    """Manifests as one JSON document for kubectl's stdin."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
