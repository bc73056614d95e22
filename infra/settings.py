"""Stage 1: slipway.yaml, the environment and flags -> Settings, each value with its source.

In: a Request. Out: Settings. Every problem is reported at once, with file, line, key and what was
expected. Order of precedence: default < file < environment (SLIPWAY_HOSTS_WORKERS) < flag
(--set hosts.workers=3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from infra.core.context import Context
from infra.core.errors import UsageError
from infra.core.schema import Settings, leaves
from infra.core.sources import in_file, located, near, parsed, without_login
from infra.core.types import Outcome, Request

# Variables that are slipway's but not settings.
OTHER_VARIABLES = frozenset({"SLIPWAY_CACHE"})


@dataclass(frozen=True)
class Source:
    """Where a value came from. where: "slipway.yaml:12", "SLIPWAY_HOSTS_WORKERS" or "--set hosts.workers"."""

    kind: Literal["file", "environment", "flag"]
    where: str
    text: str


class ReadSettings:
    """Reads what the user set and refuses what cannot work, before anything is touched."""

    title: ClassVar[str] = "Reading settings"

    def run(self, ctx: Context, request: Request) -> Outcome[Settings]:
        settings, sources = read(request)
        names = f"{len(sources)} set" if sources else "all defaults"
        return Outcome(
            settings, 0, f"{request.config.name if request.config else 'no slipway.yaml'}, {names}"
        )

    def plan(self, ctx: Context, request: Request) -> list[str]:
        read(request)
        return []


def variable(key: str) -> str:
    """The environment variable of a setting: hosts.workers -> SLIPWAY_HOSTS_WORKERS."""
    return "SLIPWAY_" + key.replace(".", "_").upper()


def read(request: Request) -> tuple[Settings, dict[str, Source]]:
    """Settings and the source of each value that is not a default.

    Relative paths are relative to the file that names them, or to the working directory when they
    come from the environment or a flag. Raises UsageError listing every problem.
    """
    fields = leaves()
    problems: list[str] = []
    tree: dict[str, Any] = {}
    sources: dict[str, Source] = {}

    def put(key: str, value: Any, source: Source, base: Path) -> None:
        section, name = key.split(".", 1)
        tree.setdefault(section, {})[name] = located(fields[key], value, base)
        sources[key] = source

    if request.config is not None:
        for key, (value, line) in in_file(request.config, fields, problems).items():
            put(key, value, Source("file", f"{request.config}:{line}", str(value)), request.config.parent)
    variables = {variable(key): key for key in fields}
    for name, text in sorted(request.environment.items()):
        if name in variables:
            put(
                variables[name],
                parsed(fields[variables[name]], text),
                Source("environment", name, text),
                Path.cwd(),
            )
        elif name.startswith("SLIPWAY_") and name not in OTHER_VARIABLES:
            problems.append(f"{name}: no such setting{near(name, variables)}")
    for flag in request.flags:
        key, equals, text = flag.partition("=")
        if not equals:
            problems.append(f"--set {flag}: expected KEY=VALUE, e.g. --set hosts.workers=3")
        elif key not in fields:
            problems.append(f"--set {key}: no such setting{near(key, fields)}")
        else:
            put(key, parsed(fields[key], text), Source("flag", f"--set {key}", text), Path.cwd())

    settings = _validated(tree, sources, request.config, problems)
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError(
            f"{count} in the settings",
            tail="\n".join(problems),
            action="`slipway settings` lists every key, its type and meaning",
        )
    return settings, sources


def _validated(
    tree: dict[str, Any], sources: dict[str, Source], config: Path | None, problems: list[str]
) -> Settings:
    def at(key: str) -> str:
        return f"{sources[key].where if key in sources else config or 'settings'}: {key}"

    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"][:2])
            got = sources[key].text if key in sources else item["input"]
            problems.append(f"{at(key)}: {_sentence(item['msg'])}, got {without_login(repr(got))}")
        return Settings()
    problems += [f"{at(key)}: {what}" for key, what in settings.contradictions()]
    return settings


def _sentence(message: str) -> str:
    short = message.removeprefix("Value error, ").replace("Input should be", "expected")
    return re.sub(r", (unable to parse string|got a number).*$", "", short)
