"""Pulumi's engine through its CLI: preview, up, destroy, and what the state holds.

The CLI is run as every other program is. Pulumi's Automation API starts it eleven times for what needs two.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.clients import pulumi_stack
from slipway.clients.kubectl import Change, differing
from slipway.core import process
from slipway.core.errors import DeployError, EnvironmentFault


@dataclass(frozen=True)
class Resource:
    """One resource of the stack's state."""

    kind: str
    namespace: str
    name: str


# Steps of the engine in the words of the other way. A replacement is one `replace` beside its two halves.
_VERBS = {"create": "create", "update": "change", "delete": "remove", "replace": "replace"}


def change_of(event: Mapping[str, Any]) -> Change | None:
    """The change that an engine event announces; None for any other event and for what stays as it is."""
    step = (event.get("resourcePreEvent") or {}).get("metadata")
    if step is None or not step["type"].startswith("kubernetes:"):
        return None
    verb = _VERBS.get(step["op"])
    if verb is None:
        return None
    old, new = (((step.get(side) or {}).get("inputs") or {}) for side in ("old", "new"))
    name = ((new or old).get("metadata") or {}).get("name") or step["urn"].rpartition("::")[2]
    # the step's own list of fields has no values
    fields = differing(old, new) if verb in ("change", "replace") else ()
    return Change(verb, step["type"].rpartition(":")[2], str(name), fields)


def any_change_of(event: Mapping[str, Any]) -> Change | None:
    """The change of a resource of any provider that an engine event announces; components are none."""
    step = (event.get("resourcePreEvent") or {}).get("metadata")
    if step is None or step["type"].startswith(("pulumi:", "slipway:")):
        return None
    verb = _VERBS.get(step["op"])
    if verb is None:
        return None
    return Change(verb, step["type"].rpartition(":")[2], step["urn"].rpartition("::")[2])


class NoStack(DeployError):
    """Pulumi knows no stack of this name."""


class Engine:
    """The stack of one lab, through Pulumi's CLI, which is started once for each operation.

    Its state is read once, and again after what changes it.
    """

    def __init__(
        self,
        root: Path,
        project: Path,
        stack: str,
        variables: Mapping[str, str],
        *,
        on_line: Callable[[str], None],
        tells: Callable[[Mapping[str, Any]], Change | None] = change_of,
    ) -> None:
        """root: folder with bin/pulumi. project: folder of Pulumi.yaml. variables: see `environment`.

        tells: which change an event announces.
        """
        self.root = root
        self.project = project
        self.stack = stack
        self.variables = dict(variables)
        if pulumi_stack.has_plugin(root / "bin" / "pulumi", self.variables.get("PULUMI_HOME")):
            self.variables.setdefault(pulumi_stack.NO_PLUGINS, "true")
        self.on_line = on_line
        self.tells = tells
        self._held: Mapping[str, Any] | None = None

    def preview(self, config: Path | None = None) -> list[Change]:
        """What `up` would change with the configuration of this file; changes nothing."""
        self._make_stack()
        return self._changes("preview", *(("--config-file", str(config)) if config is not None else ()))

    def up(self) -> list[Change]:
        """Make the cluster what the program says; returns what changed.

        State is saved step by step: a second call goes on.
        """
        self._make_stack()
        if self._state().get("pending_operations"):
            # a run was killed between asking for an object and noting it down: it may exist already,
            # and is ours, which the provider cannot know
            self.variables["PULUMI_K8S_UPSERT_EXISTING_OBJECTS"] = "true"
        return self._changes("up", "--yes", "--skip-preview")

    def destroy(self) -> list[Change]:
        """Remove every resource of the stack, then the stack itself and its configuration."""
        self._make_stack()
        changes = self._changes("destroy", "--yes", "--skip-preview")
        self._run("stack", "rm", "--yes", self.stack)
        self._held = None
        return changes

    def forget(self) -> None:
        """Drop the stack from Pulumi's state; its resources and its configuration stay as they are."""
        self._make_stack()
        self._run("stack", "rm", "--yes", "--force", "--preserve-config", self.stack)
        self._held = None

    def rename(self, name: str) -> None:
        """Call the stack otherwise, with its configuration; its resources stay as they are.

        A stack of that name that holds nothing, as one that was only looked at, makes room. One that was
        renamed before a run was killed stays so.
        """
        with self._complete("stack ls"):
            there = {one["name"] for one in json.loads(self._run("stack", "ls", "--json"))}
        if self.stack in there:
            if name in there:
                self._run("stack", "rm", "--yes", name)
            self._run("stack", "rename", name, "--stack", self.stack)
        self.stack, self._held = name, None

    def resources(self) -> set[Resource]:
        """What the stack's state lists, finished or begun."""
        state = self._state()
        begun = [item["resource"] for item in state.get("pending_operations") or []]
        return {_resource(item) for item in [*(state.get("resources") or []), *begun]}

    def outputs(self) -> dict[str, Any]:
        """What the stack exports; empty while there is no stack."""
        for item in self._state().get("resources") or []:
            if item["type"] == "pulumi:pulumi:Stack":
                return dict(item.get("outputs") or {})
        return {}

    def _state(self) -> Mapping[str, Any]:
        """The stack's deployment as Pulumi exports it; empty while there is no stack."""
        if self._held is None:
            try:
                said = self._run("stack", "export", "--stack", self.stack)
            except NoStack:
                return {}
            with self._complete("stack export"):
                self._held = json.loads(said).get("deployment") or {}
        return self._held

    def _make_stack(self) -> None:
        """Make the stack unless there is one."""
        self._state()
        if self._held is None:
            self._run("stack", "init", "--no-select", self.stack)
            self._held = {}

    def _changes(self, verb: str, *args: str) -> list[Change]:
        """Run an operation on the stack as the cluster is now; returns what its events tell to change."""
        self._held = None
        with tempfile.TemporaryDirectory(prefix="slip-pulumi-") as folder:
            log = Path(folder, "events")
            self._run(
                *(verb, *args, "--refresh", "--color", "never", "--stack", self.stack),
                *("--event-log", str(log)),
                tell=True,
            )
            with self._complete(verb):
                return _changes_of(log.read_text(encoding="utf-8").splitlines(), self.tells)

    def _run(self, *args: str, tell: bool = False) -> str:
        """What `pulumi ARGS` prints. tell: pass its lines on as they come.

        Raises NoStack, DeployError with its diagnostics, EnvironmentFault when it does not start.
        """
        cli = self.root / "bin" / "pulumi"
        path = {**os.environ, **self.variables}.get("PATH", os.defpath)
        words = list(itertools.takewhile(lambda arg: not arg.startswith("-"), args))[:2]
        done = process.run(
            [cli, *args, "--non-interactive"],
            cwd=self.project,
            env={
                **self.variables,
                "PULUMI_DEBUG_COMMANDS": "true",  # has --event-log
                "PATH": f"{cli.parent}{os.pathsep}{path}",  # its own plugins first
            },
            check=False,
            on_line=self._output if tell else None,
            where=str(cli),
            action=_NO_CLI,
        )
        if done.returncode == 0:
            return done.stdout
        verb = " ".join(words)
        tail = _cause(done.stdout, done.stderr)
        if _NOT_FOUND.search(done.stderr):
            raise NoStack(f"`pulumi {verb}` found no stack", where=f"stack {self.stack}", tail=tail)
        if _LOCKED.search(done.stderr):
            raise DeployError(
                f"`pulumi {verb}` found the stack locked",
                where=f"stack {self.stack}",
                tail=tail,
                action="wait for the other `pulumi` to end; if it is dead: `pulumi cancel` after "
                "`slipway env`",
            )
        if unfit := pulumi_stack.unfit(cli):
            raise EnvironmentFault(f"{cli} does not work: {unfit}", where=str(cli), tail=tail, action=_NO_CLI)
        raise DeployError(
            f"`pulumi {verb}` failed",
            where=f"stack {self.stack}",
            tail=tail,
            action="fix the cause above and run the same command again: it goes on where this one stopped",
        )

    def _output(self, text: str) -> None:
        if text.strip():
            self.on_line(text.rstrip("\n"))

    @contextlib.contextmanager
    def _complete(self, verb: str) -> Iterator[None]:
        """Tell an answer that cannot be read, or lacks its end."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeployError(
                f"`pulumi {verb}` ended well, and its answer is incomplete",
                where=f"stack {self.stack}",
                tail=str(error),
                action="run the same command again, with --verbose to see what Pulumi prints",
            ) from error

    def unlock(self) -> int:
        """Remove locks in a backend's folder whose process on this machine is dead; returns how many.

        Locks elsewhere are for `pulumi cancel`. Raises DeployError for a lock that does not say whose it is.
        """
        scheme, _, place = self.variables["PULUMI_BACKEND_URL"].partition("://")
        if scheme != "file":
            return 0
        folder = Path(place, ".pulumi", "locks")
        count = 0
        for file in folder.rglob("*.json"):
            try:
                lock = json.loads(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue  # its `pulumi` has ended
            except ValueError as error:  # Pulumi was killed while writing it, or still does
                raise DeployError(
                    "a lock of Pulumi's is not readable",
                    where=str(file),
                    tail=str(error),
                    action="wait for the other `pulumi` to end; if there is no other one, remove that file",
                ) from error
            if lock.get("hostname") == socket.gethostname() and not process.lives(lock.get("pid")):
                file.unlink()
                count += 1
        return count


def _changes_of(events: Iterable[str], tells: Callable[[Mapping[str, Any]], Change | None]) -> list[Change]:
    """The changes in an operation's events, without the stack's own bookkeeping.

    Raises ValueError when the summary, which ends them, is not there.
    """
    changes, ended = [], False
    for line in events:
        event = json.loads(line)
        ended = ended or "summaryEvent" in event
        change = tells(event)
        if change is not None:
            changes.append(change)
    if not ended:
        raise ValueError("the events have no summary")
    return changes


def _resource(item: Mapping[str, Any]) -> Resource:
    """A resource as the stack's state lists it, finished or only begun."""
    metadata = (item.get("inputs") or {}).get("metadata") or {}
    return Resource(
        item["type"].rpartition(":")[2], str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    )


# The words of Pulumi's backends, in folders and elsewhere
_NOT_FOUND = re.compile(r"no stack named.*found")
_LOCKED = re.compile(
    r"the stack is currently locked by|\[409\] Conflict: Another update is currently in progress"
)
_NO_CLI = "install the Pulumi CLI again, or set deploy.by: render"


def _cause(out: str, err: str) -> str:
    """The part of Pulumi's output that tells the cause: its diagnostics, else stderr, else all of it."""
    out, err = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in (out, err))
    start = out.find("Diagnostics:")
    cause = out[start:] if start >= 0 else err.strip() or out
    return "\n".join(line for line in cause.splitlines() if line.strip())
