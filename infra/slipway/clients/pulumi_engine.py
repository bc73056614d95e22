"""Pulumi's real engine and CLI through its Automation API: preview, up, destroy, and what the state holds."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.clients.kubectl import Change, differing
from slipway.clients.pulumi_stack import has_plugin
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


def change_of(event: Any) -> Change | None:
    """The change that an engine event announces; None for any other event and for what stays as it is."""
    if event.resource_pre_event is None:
        return None
    step = event.resource_pre_event.metadata
    verb = _VERBS.get(step.op.value)
    if verb is None or not step.type.startswith("kubernetes:"):
        return None
    old, new = (((state and state.inputs) or {}) for state in (step.old, step.new))
    name = ((new or old).get("metadata") or {}).get("name") or step.urn.rpartition("::")[2]
    # the step's own list of fields has no values, and not every version of the library reads it
    fields = differing(old, new) if verb in ("change", "replace") else ()
    return Change(verb, step.type.rpartition(":")[2], str(name), fields)


class Engine:
    """The stack of one lab, through Pulumi's Automation API and its real CLI."""

    def __init__(
        self,
        root: Path,
        project: Path,
        stack: str,
        variables: Mapping[str, str],
        *,
        on_line: Callable[[str], None],
    ) -> None:
        """root: folder with bin/pulumi. project: folder of Pulumi.yaml. variables: see `environment`."""
        self.root = root
        self.project = project
        self.stack = stack
        self.variables = dict(variables)
        if has_plugin(root / "bin" / "pulumi", self.variables.get("PULUMI_HOME")):
            self.variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
        self.on_line = on_line

    def preview(self, config: Path | None = None) -> list[Change]:
        """What `up` would change with the configuration of this file; changes nothing."""
        with self._errors("preview"):
            seen = _Changes()
            self._open().preview(
                refresh=True,
                color="never",
                on_output=self._output,
                on_event=seen,
                config_file=str(config) if config is not None else None,
            )
            return seen.changes

    def up(self) -> list[Change]:
        """Make the cluster what the program says; returns what changed.

        State is saved step by step: a second call goes on.
        """
        if self._state()[1]:
            # a run was killed between asking for an object and noting it down: it may exist already,
            # and is ours, which the provider cannot know
            self.variables["PULUMI_K8S_UPSERT_EXISTING_OBJECTS"] = "true"
        with self._errors("up"):
            seen = _Changes()
            self._open().up(
                refresh=True, color="never", show_secrets=False, on_output=self._output, on_event=seen
            )
            return seen.changes

    def destroy(self) -> list[Change]:
        """Remove every resource of the stack, then the stack itself and its configuration."""
        with self._errors("destroy"):
            stack, seen = self._open(), _Changes()
            stack.destroy(
                refresh=True, color="never", show_secrets=False, on_output=self._output, on_event=seen
            )
            stack.workspace.remove_stack(self.stack)
            return seen.changes

    def forget(self) -> None:
        """Drop the stack from Pulumi's state; its resources and its configuration stay as they are."""
        with self._errors("stack rm"):
            self._open().workspace.remove_stack(self.stack, force=True, preserve_config=True)

    def rename(self, name: str) -> None:
        """Call the stack otherwise, with its configuration; its resources stay as they are.

        A stack of that name that holds nothing, as one that was only looked at, makes room. One that was
        renamed before a run was killed stays so.
        """
        with self._errors("stack rename"):
            workspace = self._workspace()
            there = {one.name for one in workspace.list_stacks()}
            if self.stack in there:
                if name in there:
                    workspace.remove_stack(name)
                self._open().rename(name, on_output=self._output)
            self.stack = name

    def resources(self) -> set[Resource]:
        """What the stack's state lists, finished or begun."""
        done, begun = self._state()
        return done | begun

    def _state(self) -> tuple[set[Resource], set[Resource]]:
        with self._errors("stack export"):
            held = self._open().export_stack().deployment or {}
        done = {_resource(item) for item in held.get("resources") or []}
        begun = {_resource(item["resource"]) for item in held.get("pending_operations") or []}
        return done, begun

    def _open(self) -> Any:
        automation = _library()

        return automation.create_or_select_stack(
            self.stack,
            work_dir=str(self.project),
            opts=automation.LocalWorkspaceOptions(env_vars=self.variables, pulumi_command=self._command),
        )

    def _workspace(self) -> Any:
        """The project, without a look at a stack, which would make it where there is none."""
        automation = _library()

        return automation.LocalWorkspace(
            work_dir=str(self.project), env_vars=self.variables, pulumi_command=self._command
        )

    @functools.cached_property
    def _command(self) -> Any:
        """The CLI, started once to see that it does and which version it is."""
        automation = _library()

        cli = self.root / "bin" / "pulumi"
        # automation asks the same, but drops words and cause when the CLI does not start
        process.run(
            [cli, "version"],
            env=self.variables,
            where=str(cli),
            action="install the Pulumi CLI again, or set deploy.by: render",
        )
        return _ended_with_its_thread(automation.PulumiCommand(str(self.root)))

    def _output(self, text: str) -> None:
        if text.strip():
            self.on_line(text.rstrip("\n"))

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        automation = _library()

        try:
            yield
        except automation.InvalidVersionError as error:
            raise EnvironmentFault(
                str(error), where=str(self.root / "bin" / "pulumi"), action="or set deploy.by: render"
            ) from error
        except automation.ConcurrentUpdateError as error:
            raise DeployError(
                f"`pulumi {verb}` found the stack locked",
                where=f"stack {self.stack}",
                tail=_cause(str(error)),
                action="wait for the other `pulumi` to end; if it is dead: `pulumi cancel` after "
                "`slipway env`",
            ) from error
        except automation.CommandError as error:
            raise DeployError(
                f"`pulumi {verb}` failed",
                where=f"stack {self.stack}",
                tail=_cause(str(error)),
                action="fix the cause above and run the same command again: it goes on where this one "
                "stopped",
            ) from error
        except (RuntimeError, json.JSONDecodeError) as error:
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


@functools.cache
def _library() -> Any:
    """Pulumi's Automation API.

    gRPC asks for an event loop as it is loaded, and Python makes one in the main thread alone; this may be
    a stage's.
    """
    if threading.current_thread() is not threading.main_thread():
        asyncio.set_event_loop(asyncio.new_event_loop())
    from pulumi import automation

    return automation


def _ended_with_its_thread(command: Any) -> Any:
    """Pulumi's CLI, run as every other program is: it ends when the thread that runs it is to end."""
    automation = _library()

    def run(
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], None] | None = None,
        on_error: Callable[[str], None] | None = None,  # noqa: ARG001  # what Pulumi's library calls it with
    ) -> Any:
        path = {**os.environ, **additional_env}.get("PATH", os.defpath)
        done = process.run(
            [command.command, *args, "--non-interactive"],
            cwd=Path(cwd),
            env={
                **additional_env,
                "PULUMI_AUTOMATION_API": "true",
                "PATH": f"{Path(command.command).parent}{os.pathsep}{path}",  # its own plugins first
            },
            check=False,
            on_line=on_output,
        )
        result = automation.CommandResult(
            stdout=done.stdout.rstrip(), stderr=done.stderr.rstrip(), code=done.returncode
        )
        if done.returncode != 0:
            raise automation.errors.create_command_error(result)
        return result

    command.run = run
    return command


class _Changes:
    """Takes the engine's events and keeps the changes of the cluster, without the stack's own bookkeeping."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def __call__(self, event: Any) -> None:
        change = change_of(event)
        if change is not None:
            self.changes.append(change)


def _resource(item: Mapping[str, Any]) -> Resource:
    """A resource as the stack's state lists it, finished or only begun."""
    metadata = (item.get("inputs") or {}).get("metadata") or {}
    return Resource(
        item["type"].rpartition(":")[2], str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    )


# How automation writes what a failed `pulumi` left: its exit code and both streams
_ENDED = re.compile(r"\s*code: -?\d+\n stdout: (.*)\n stderr: (.*)", re.DOTALL)


def _cause(text: str) -> str:
    """The part of Pulumi's output that tells the cause: its diagnostics, else stderr, else all of it."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    ended = _ENDED.fullmatch(text)
    out, err = ended.groups() if ended is not None else (text, "")
    start = out.find("Diagnostics:")
    cause = out[start:] if start >= 0 else err.strip() or out
    return "\n".join(line for line in cause.splitlines() if line.strip())
