"""The stack's configuration file: what people set in it stays, what slipway set is remembered as its own.

Pulumi keeps one file for both. What slipway wrote last is in the state folder, so that a setting that is
taken out of slipway.yaml goes from the file too, and a value that somebody put there by hand does not.
"""

from __future__ import annotations

import json
from pathlib import Path

from slipway.clients import pulumi_stack
from slipway.core.context import Context
from slipway.core.state import write_atomically
from slipway.deploy.engine import project_of, stack_of


def file(ctx: Context) -> Path:
    """The stack's file."""
    return pulumi_stack.stack_file(project_of(ctx), stack_of(ctx))


def written(ctx: Context) -> dict[str, str]:
    """What slipway wrote into it last, by full key."""
    try:
        held = json.loads(_memory(ctx).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in held.items()} if isinstance(held, dict) else {}


def of_people(ctx: Context) -> tuple[Path, dict[str, str]]:
    """The file, and the inputs that people set in it. Raises UsageError for one that cannot be read."""
    if not (project_of(ctx) / "Pulumi.yaml").is_file():
        return Path(), {}
    return file(ctx), pulumi_stack.own_values(file(ctx), written(ctx))


def write(ctx: Context, config: dict[str, str]) -> Path:
    """Set these values, by full key; returns the file."""
    pulumi_stack.write_config(file(ctx), config, written(ctx))
    write_atomically(_memory(ctx), json.dumps(config, indent=1) + "\n", 0o600)
    return file(ctx)


def pass_on(place: Context, ctx: Context) -> None:
    """What slipway wrote into a stack's file, under the name that the stack has now."""
    if _memory(place).is_file():
        _memory(place).replace(_memory(ctx))


def take_back(ctx: Context) -> list[str]:
    """Take out what slipway set. Returns a line for the file if it is gone with that."""
    ours = written(ctx)
    if not ours:
        return []
    project = project_of(ctx)
    there = (project / "Pulumi.yaml").is_file() and file(ctx).is_file()
    gone = there and pulumi_stack.take_back(file(ctx), ours)
    _memory(ctx).unlink(missing_ok=True)
    return [f"{file(ctx).relative_to(project)}"] if gone else []


def _memory(ctx: Context) -> Path:
    return ctx.state.pulumi / f"{stack_of(ctx)}.json"
