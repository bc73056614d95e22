"""slipway.yaml, the environment and flags -> Settings, each value with its source.

In: a Request. Out: Settings. Every problem is reported at once, with file, line, key and what was
expected. Order of precedence: default < file < environment (SLIPWAY_HOSTS_WORKERS) < flag
(--set hosts.workers=3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from slipway.core.errors import UsageError
from slipway.core.ownership import SAFE_FOLDERS
from slipway.core.schema import Settings, leaves
from slipway.core.user_files import printable
from slipway.settings.sources import located, near, parsed, variable, without_login
from slipway.settings.yaml_file import in_file

# Variables that are slipway's but not settings.
OTHER_VARIABLES = frozenset({"SLIPWAY_CACHE", SAFE_FOLDERS})
LONGEST = 4096  # characters of one value: a path has no more
MOST = 50  # problems that are shown


@dataclass(frozen=True)
class Request:
    """What the user asked with. config: slipway.yaml when there is one. flags: KEY=VALUE of --set."""

    config: Path | None
    environment: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a value came from. where: "slipway.yaml:12", "SLIPWAY_HOSTS_WORKERS" or "--set hosts.workers"."""

    kind: Literal["file", "environment", "flag"]
    where: str
    text: str


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
        try:
            if len(source.text) > LONGEST:
                raise ValueError(f"a value has at most {LONGEST:,} characters, this one {len(source.text):,}")
            tree.setdefault(section, {})[name] = located(fields[key], value, base)
        except ValueError as error:
            problems.append(f"{source.where}: {key}: {error}")
        sources[key] = source

    if request.config is not None:
        for key, given in in_file(request.config, fields, problems).items():
            source = Source("file", f"{request.config}:{given.line}", given.text)
            put(key, given.value, source, request.config.parent)
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
            tail="\n".join(_lines(problems)),
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
            problems.append(
                f"{at(key)}: {_sentence(item['msg'])}, got {printable(without_login(repr(got)), 200)}"
            )
        return Settings()
    problems += [f"{at(key)}: {what}" for key, what in settings.contradictions()]
    return settings


def _lines(problems: list[str]) -> list[str]:
    """The problems as people can read them: each on a line of its own, and not too many."""
    lines = [printable(problem) for problem in problems[:MOST]]
    return [*lines, f"and {len(problems) - MOST} more"] if len(problems) > MOST else lines


def _sentence(message: str) -> str:
    short = message.removeprefix("Value error, ").replace("Input should be", "expected")
    return re.sub(r", (unable to parse string|got a number).*$", "", short)
