"""A stack of Pulumi's on this machine: its name, its configuration file, where its state and its CLI are."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from slipway_stacks import outputs

from slipway.core import process, project
from slipway.core.errors import UsageError
from slipway.core.state import create_once, write_atomically
from slipway.core.user_files import printable, text_of

NO_PLUGINS = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"
PROGRAM = project.folder() / "stacks"  # the folder with __main__.py; Pulumi.yaml lies above it


def stack_name(project: Path, state: Path, model: str = "") -> str:
    """`lab` if project and state folder lie in one another, else a name made from the folder's path.

    model: of several the one whose stack it is, which the name ends with.
    """
    home, held = project.resolve(), state.resolve()
    name = "lab"
    if held.parent != home and not home.is_relative_to(held):
        name += f"-{hashlib.sha256(str(held).encode()).hexdigest()[:8]}"
    return f"{name}-{model}" if model else name


def stack_file(project: Path, stack: str) -> Path:
    """Where a stack's configuration is kept, as Pulumi.yaml says it."""
    folder = _document(project / "Pulumi.yaml").get("stackConfigDir", ".")
    return Path(project / str(folder), f"Pulumi.{stack}.yaml")


def has_venv(project: Path) -> bool:
    """Whether the Python that a project's Pulumi.yaml names is there."""
    runtime = _document(project / "Pulumi.yaml").get("runtime")
    options = runtime.get("options") or {} if isinstance(runtime, dict) else {}
    return Path(project, options.get("virtualenv", ""), "").exists()


def copy_project(carried: Path, to: Path) -> Path:
    """Make `to` a folder for `pulumi` out of the one that slipway carries; returns `to`.

    Nothing may be written where slipway is installed, and each stack's configuration lies in its
    project. The program is run by the Python that slipway is installed in.
    """
    settings = yaml.safe_load((carried / "Pulumi.yaml").read_text(encoding="utf-8"))
    options = settings["runtime"]["options"]
    del options["virtualenv"]
    if sys.prefix != sys.base_prefix:
        options["virtualenv"] = sys.prefix
    write_atomically(to / "Pulumi.yaml", yaml.safe_dump(settings, sort_keys=False))
    program = Path(settings.get("main", "."), "__main__.py")
    write_atomically(to / program, (carried / program).read_bytes())
    return to


def full_config(config: Mapping[str, str], context: str | None) -> dict[str, str]:
    """Values of the program and the cluster they are for, by key as Pulumi's files have it."""
    out = {f"{outputs.PROJECT}:{key}": value for key, value in sorted(config.items())}
    return out if context is None else out | {"kubernetes:context": context}


def write_config(
    file: Path, config: Mapping[str, str], written: Mapping[str, str], target: Path | None = None
) -> bool:
    """Set these values of a stack's configuration, keeping what people and Pulumi itself have in its file.

    config: by full key. written: what was set so before; of that nothing stays, unless somebody changed it
    since. With `target` the result goes there and `file` stays as it is. Returns whether anything changed.
    """
    held = _document(file) if file.is_file() else {}
    held["config"] = _of_people(file, held, written) | dict(config)
    return write_atomically(target or file, yaml.safe_dump(held, sort_keys=False))


def take_back(file: Path, written: Mapping[str, str]) -> bool:
    """Take out what was set so before, and the file if nothing of people's is in it. Whether it is gone."""
    held = _document(file)
    held["config"] = _of_people(file, held, written)
    if held["config"]:
        write_atomically(file, yaml.safe_dump(held, sort_keys=False))
        return False
    file.unlink()
    return True


def own_values(file: Path, written: Mapping[str, str]) -> dict[str, str]:
    """What people have set of the program's inputs in a stack's file, as text, by key without `slipway:`.

    Encrypted values are left out: only Pulumi reads them.
    """
    found = _of_people(file, _document(file), written) if file.is_file() else {}
    start = f"{outputs.PROJECT}:"
    return {
        key.removeprefix(start): value if isinstance(value, str) else json.dumps(value)
        for key, value in found.items()
        if key.startswith(start) and not (isinstance(value, dict) and value.keys() == {"secure"})
    }


def _of_people(file: Path, held: Mapping[str, Any], written: Mapping[str, str]) -> dict[str, Any]:
    """Of a stack's configuration what slipway did not write."""
    config = held.get("config") or {}
    if not isinstance(config, dict):
        raise UsageError(f"{file}: expected keys and values below config:, as Pulumi writes them")
    return {str(key): value for key, value in config.items() if written.get(str(key)) != str(value)}


def _document(file: Path) -> dict[str, Any]:
    """A file of Pulumi's, which people write in too. Raises UsageError for what is not keys and values."""
    action = "correct it; a stack's file may also be removed, for slipway writes what it needs into a new one"
    text = text_of(file, action=action)
    try:
        held = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        problem = getattr(error, "problem", None) or str(error)
        raise UsageError(f"{where}: not YAML: {printable(problem, 200)}", action=action) from error
    if held is not None and not isinstance(held, dict):
        raise UsageError(f"{file}: expected keys and values, as Pulumi writes them", action=action)
    return held or {}


def environment(
    folder: Path, kubeconfig: Path | None, stack: str, backend: str | None = None
) -> dict[str, str]:
    """Variables with which `pulumi` keeps its state in `folder`, which needs no account, or in `backend`.

    kubeconfig: of the cluster that is deployed to, None where there is none.
    Makes the folder (0700) and, once, the passphrase (0600) that encrypts secrets of the stack.
    """
    own = folder / "backend"
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    passphrase = folder / "passphrase"
    create_once(passphrase, secrets.token_urlsafe(32), 0o600)
    home = folder / "home"
    return {
        **({"PULUMI_HOME": str(home)} if home.is_dir() else {}),
        **({"KUBECONFIG": str(kubeconfig)} if kubeconfig is not None else {}),
        "PULUMI_BACKEND_URL": backend or f"file://{own}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
        # a field changed by hand is set back, as render does
        "PULUMI_K8S_ENABLE_PATCH_FORCE": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_STACK": stack,
    }


def find_cli() -> Path | None:
    """The `pulumi` on PATH."""
    found = shutil.which("pulumi")
    return Path(found) if found else None


def unfit(cli: Path) -> str:
    """Why this CLI cannot run programs of our version of Pulumi's library; empty if it can.

    A newer CLI runs programs of an older library.
    """
    said = process.run([cli, "version"], check=False, timeout=60)
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)\S*", said.stdout.strip())
    if said.returncode != 0 or found is None:
        return f"`pulumi version` does not tell one: {printable(said.output, 200)}"
    wanted = importlib.metadata.version("pulumi")
    if found[1] != wanted.split(".")[0] or tuple(map(int, found.groups())) < tuple(
        map(int, wanted.split("."))
    ):
        return f"it is {found[0]}, and the program wants {wanted} or a newer one of the same major version"
    return ""


def has_plugin(cli: Path, home: str | None = None) -> bool:
    """Whether the Kubernetes plugin of the version our library wants is on this machine already."""
    version = importlib.metadata.version("pulumi-kubernetes")
    place = Path(home or os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return (place / "plugins" / f"resource-kubernetes-v{version}").is_dir() or any(
        shutil.which("pulumi-resource-kubernetes", path=path) for path in (None, str(cli.resolve().parent))
    )
