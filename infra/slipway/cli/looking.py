"""Verbs that look and change nothing: status, doctor, env, settings, report."""

from __future__ import annotations

import json as json_module
import shlex
from typing import Annotated, Any

import typer

from slipway.cli.options import Config, Json, Model, Set
from slipway.cli.printing import show
from slipway.cli.session import Session
from slipway.core.errors import EnvironmentFault, UsageError
from slipway.core.schema import Settings, leaves
from slipway.core.types import label_of
from slipway.settings.sources import model_and_key, variable, without_login


def status(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Say what runs now and how the last run ended.

    Asks the hosts, the nodes and the replicas.
    """
    from slipway.status.now import status_of

    with Session(config, set_).looking("status") as ctx:
        document, lines = status_of(ctx)
    show(document, json, lambda: lines)
    return 0


def doctor(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Check what this machine lacks; change nothing.

    Exits with 3 when something that is needed is missing, and says how to get it.
    """
    from slipway.status.doctor import examine

    session = Session(config, set_)
    with session.looking("doctor") as ctx:
        checks = examine(ctx, session.settings)
    show([vars(check) for check in checks], json, lambda: [check.line() for check in checks])
    return 0 if all(check.ok or not check.needed for check in checks) else 3


def env(config: Config = None, set_: Set = None, model: Model = "", json: Json = False) -> int:
    """Print the variables kubectl and pulumi need in a shell.

    KUBECONFIG, PATH and PULUMI_*, as export lines: eval "$(slipway env)". Of several models each has a stack
    of its own: PULUMI_STACK is only told with --model.
    """
    from slipway.deploy.stage import env as variables_of

    session = Session(config, set_)
    each = session.settings.each(model)
    with session.making_what_is_missing("env") as ctx:
        variables = variables_of(ctx.of(each[0][0]), each[0][1])
    if len(each) > 1:
        del variables["PULUMI_STACK"]
    show(
        variables,
        json,
        lambda: [f"export {name}={_quoted(name, value)}" for name, value in variables.items()],
    )
    return 0


def _quoted(name: str, value: str) -> str:
    return f"{shlex.quote(value)}:$PATH" if name == "PATH" else shlex.quote(value)


def settings(
    config: Config = None,
    set_: Set = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of slipway.yaml.")] = False,
    json: Json = False,
) -> int:
    """List every setting: value, source and meaning.

    The source is the file and line, the variable or the flag that set it.
    """
    if schema:
        show(Settings.model_json_schema(), True, list)
        return 0
    session = Session(config, set_)

    def value(key: str) -> Any:
        model, leaf = model_and_key(key)
        section, name = leaf.split(".")
        found = getattr(getattr(session.settings.of(model), section), name)
        return without_login(found) if isinstance(found, str) else found

    fields = leaves()
    own = [key for key in session.sources if key.startswith("models.")]  # what is a model's own
    rows = [
        {
            "key": key,
            "value": value(key),
            "source": session.sources[key].where if key in session.sources else "default",
            "variable": variable(key) if key in fields else None,
            "meaning": fields[model_and_key(key)[1]].description,
        }
        for key in (*fields, *own)
    ]

    def lines() -> list[str]:
        return [f"{row['key']} = {row['value']}  ({row['source']})\n    {row['meaning']}" for row in rows]

    show(rows, json, lines)
    return 0


def report(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Say how the last run ended and where its report is."""
    latest = Session(config, set_).state.last_run
    if latest is None:
        raise UsageError("no run has been reported yet", action="`slipway up` makes one")
    try:
        document = json_module.loads((latest / "run.json").read_text(encoding="utf-8"))
        lines = [
            f"{label_of(stage['name'], stage.get('model', '')):<10} {stage['status']:<10} "
            f"{stage['seconds']:7.1f} s  {(stage['reason'].splitlines() or [''])[0]}"
            for stage in document["stages"]
        ]
        ok = bool(document["ok"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EnvironmentFault(
            f"the report of the last run cannot be read: {latest / 'run.json'}",
            tail=str(error),
            action="`slipway up` writes a new one",
        ) from error
    show(document, json, lambda: [*lines, f"{'ok' if ok else 'failed'}: {latest / 'index.html'}"])
    return 0 if ok else 1
