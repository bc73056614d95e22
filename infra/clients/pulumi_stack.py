"""Pulumi: the program rendered to manifests without an engine, and applied with the real one.

`python -m infra.clients.pulumi_stack` is the rendering half: configuration in PULUMI_CONFIG as the engine
hands it to a program, one JSON document on stdout. It is a process of its own because Pulumi keeps its
state in globals and event loops, and a driver that renders twice must get the same twice.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.clients.kubectl import Change, Manifest
from infra.core import process
from infra.core.errors import DeployError, EnvironmentFault, UsageError
from infra.core.state import write_atomically
from stacks import outputs

PROGRAM = Path(outputs.__file__).parent
# What is applied first comes first; also the order people expect to read.
_ORDER = (
    "Namespace",
    "ServiceAccount",
    "NetworkPolicy",
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
)


@dataclass(frozen=True)
class Rendered:
    """The program's resources as manifests, and what it warned of."""

    manifests: tuple[Manifest, ...]
    warnings: tuple[str, ...]


def render(config: Mapping[str, str]) -> Rendered:
    """The stack program's resources for these values, by key without `slipway:`; takes about 2 s.

    Raises UsageError with every wrong value at once, DeployError when a rule of stacks/rules.py is
    broken. Asks no cluster and no network.
    """
    done = process.run(
        [sys.executable, "-m", __name__],
        env={
            "PULUMI_CONFIG": json.dumps({f"{outputs.PROJECT}:{key}": value for key, value in config.items()})
        },
        cwd=PROGRAM.parent,
        timeout=120,
        where="rendering stacks/",
    )
    answer = json.loads(done.stdout)
    if answer["problem"]:
        raise UsageError(
            "the stack's inputs are wrong",
            where="stacks/inputs.py",
            tail=answer["problem"],
            action="correct deploy.* in slipway.yaml, or the stack's file in stacks/envs",
        )
    if answer["violations"]:
        raise DeployError(
            "the stack breaks its own rules",
            where="stacks/rules.py",
            tail="\n".join(answer["violations"]),
            action="these hold for every deployment; correct the program in stacks/",
        )
    return Rendered(tuple(answer["manifests"]), tuple(answer["warnings"]))


def run_program(config: Mapping[str, str]) -> Rendered:
    """Run stacks/__main__.py in this process against Pulumi's mocks; config by full key.

    Raises pulumi.RunError when the program refuses its inputs.
    """
    import logging
    import runpy

    import pulumi

    seen: list[Manifest] = []
    warnings: list[str] = []

    class Recorder(pulumi.runtime.Mocks):
        def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
            raise NotImplementedError(f"the program asks the provider for {args.token}: it must not")

        def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
            if args.typ.startswith("kubernetes:"):
                seen.append(_whole(args.inputs))
            return f"{args.name}-id", args.inputs

    class Warnings(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record.getMessage())

    logger = logging.Logger("stacks", logging.WARNING)
    logger.addHandler(Warnings())
    before = os.environ.get("PULUMI_CONFIG")
    os.environ["PULUMI_CONFIG"] = json.dumps(dict(config))
    try:
        pulumi.runtime.set_mocks(
            Recorder(), project=outputs.PROJECT, stack="render", preview=False, logger=logger
        )
        # waits for every output of the program; pulumi ships it without annotations
        pulumi.runtime.test(lambda: runpy.run_module("stacks", run_name="__main__") and None)()  # type: ignore[no-untyped-call]
    finally:
        if before is None:
            del os.environ["PULUMI_CONFIG"]
        else:
            os.environ["PULUMI_CONFIG"] = before
    seen.sort(key=lambda item: (_ORDER.index(item["kind"]), str(item["metadata"]["name"])))
    return Rendered(tuple(_ordered(item) for item in seen), tuple(warnings))


def _whole(value: Any) -> Any:
    """Mocks hand every number back as a float; the API takes no 3.0 for a count."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def _ordered(manifest: Manifest) -> Manifest:
    """Keys in the order of the API's own documentation, then by name: the same text every time."""
    first = ("apiVersion", "kind", "metadata", "name", "namespace", "labels")

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: (first.index(key) if key in first else len(first), key))
            return {key: walk(value[key]) for key in keys}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return dict(walk(manifest))


def main() -> int:
    """The rendering process: PULUMI_CONFIG in, one JSON document out."""
    import pulumi

    from stacks import rules

    rendered, problem = Rendered((), ()), ""
    try:
        rendered = run_program(json.loads(os.environ["PULUMI_CONFIG"]))
    except pulumi.RunError as error:
        problem = str(error)
    json.dump(
        {
            "manifests": rendered.manifests,
            "warnings": rendered.warnings,
            "problem": problem,
            "violations": rules.violations(rendered.manifests),
        },
        sys.stdout,
    )
    return 0


# ---- the engine


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
    state = step.new or step.old
    named = (state.inputs or {}).get("metadata") or {}
    name = named.get("name") or step.urn.rpartition("::")[2]
    fields = tuple(step.detailed_diff or ()) if verb in ("change", "replace") else ()
    return Change(verb, step.type.rpartition(":")[2], str(name), fields)


def stack_name(project: Path, state: Path) -> str:
    """`lab` for the state folder of the project, else a name that follows from the folder's path."""
    import hashlib

    if state.parent.resolve() == project.resolve():
        return "lab"
    return f"lab-{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]}"


def stack_file(project: Path, stack: str) -> Path:
    """Where a stack's configuration is kept, as Pulumi.yaml says it."""
    settings = yaml.safe_load((project / "Pulumi.yaml").read_text(encoding="utf-8"))
    return Path(project / settings.get("stackConfigDir", "."), f"Pulumi.{stack}.yaml")


def write_config(
    file: Path, config: Mapping[str, str], context: str | None, target: Path | None = None
) -> bool:
    """Set a stack's configuration to these values, keeping what is Pulumi's own in its file.

    With `target` the result goes there and `file` stays as it is. Returns whether anything changed.
    """
    held = yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file.is_file() else {}
    held["config"] = {f"{outputs.PROJECT}:{key}": value for key, value in sorted(config.items())}
    if context is not None:
        held["config"]["kubernetes:context"] = context
    return write_atomically(target or file, yaml.safe_dump(held, sort_keys=False))


def environment(folder: Path, kubeconfig: Path, stack: str) -> dict[str, str]:
    """Variables with which `pulumi` keeps its state in `folder` and needs no account.

    Makes the folder (0700) and, once, the passphrase (0600) that encrypts secrets of the stack.
    """
    backend = folder / "backend"
    backend.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    passphrase = folder / "passphrase"
    if not passphrase.is_file():
        write_atomically(passphrase, secrets.token_urlsafe(32), mode=0o600)
    home = folder / "home"
    return {
        **({"PULUMI_HOME": str(home)} if home.is_dir() else {}),
        "KUBECONFIG": str(kubeconfig),
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_STACK": stack,
    }


def find_cli() -> Path | None:
    """The `pulumi` on PATH."""
    found = shutil.which("pulumi")
    return Path(found) if found else None


def has_plugin(cli: Path, home: str | None = None) -> bool:
    """Whether the Kubernetes plugin of the version our library wants is on this machine already."""
    version = importlib.metadata.version("pulumi-kubernetes")
    place = Path(home or os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return (place / "plugins" / f"resource-kubernetes-v{version}").is_dir() or any(
        shutil.which("pulumi-resource-kubernetes", path=path) for path in (None, str(cli.resolve().parent))
    )


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
        # a field changed by hand is set back, as render does; whose the objects are is asked before
        self.variables["PULUMI_K8S_ENABLE_PATCH_FORCE"] = "true"
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
        from pulumi import automation

        return automation.create_or_select_stack(
            self.stack,
            work_dir=str(self.project),
            opts=automation.LocalWorkspaceOptions(env_vars=self.variables, pulumi_command=self._command),
        )

    @functools.cached_property
    def _command(self) -> Any:
        """The CLI, started once to see that it does and which version it is."""
        from pulumi import automation

        cli = self.root / "bin" / "pulumi"
        # automation asks the same; of a CLI that does not start it keeps neither the words nor the cause
        process.run(
            [cli, "version"],
            env=self.variables,
            where=str(cli),
            action="install the Pulumi CLI again, or set deploy.by: render",
        )
        return automation.PulumiCommand(str(self.root))

    def _output(self, text: str) -> None:
        if text.strip():
            self.on_line(text.rstrip("\n"))

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        from pulumi import automation

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
                action="wait for the other `pulumi` to end; if it is dead: `pulumi cancel` after `slipway env`",
            ) from error
        except automation.CommandError as error:
            raise DeployError(
                f"`pulumi {verb}` failed",
                where=f"stack {self.stack}",
                tail=_cause(str(error)),
                action="mend the cause above and run the same command again: it goes on where this one stopped",
            ) from error
        except (RuntimeError, json.JSONDecodeError) as error:
            raise DeployError(
                f"`pulumi {verb}` ended well, and its answer is incomplete",
                where=f"stack {self.stack}",
                tail=str(error),
                action="run the same command again, with --verbose to see what Pulumi prints",
            ) from error

    def unlock(self) -> int:
        """Remove locks in the state folder whose process on this machine is dead; returns how many.

        Raises DeployError for a lock that does not say whose it is.
        """
        folder = Path(self.variables["PULUMI_BACKEND_URL"].removeprefix("file://")) / ".pulumi" / "locks"
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
                    action="wait for the other `pulumi` to end; if there is none, remove that file",
                ) from error
            dead = not Path(f"/proc/{lock.get('pid')}").exists()
            if lock.get("hostname") == socket.gethostname() and dead:
                file.unlink()
                count += 1
        return count


class _Changes:
    """Takes the engine's events and keeps the changes of the cluster; the stack's own bookkeeping is none."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def __call__(self, event: Any) -> None:
        change = change_of(event)
        if change is not None:
            self.changes.append(change)


def _resource(item: Mapping[str, Any]) -> Resource:
    """kubernetes:apps/v1:Deployment with id serving/mnist-deployment, finished or only asked for."""
    metadata = (item.get("inputs") or {}).get("metadata") or {}
    return Resource(
        item["type"].rpartition(":")[2], str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    )


def _cause(text: str) -> str:
    """The part of Pulumi's output that tells the cause: its diagnostics, else its end."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    start = text.find("Diagnostics:")
    lines = (text[start:] if start >= 0 else text).splitlines()
    return "\n".join(line for line in lines if line.strip())


if __name__ == "__main__":
    sys.exit(main())
