"""Stage 1: slipway.yaml, the environment and flags -> Settings, each value with its source.

In: a Request. Out: Settings. Every problem is reported at once, with file, line, key and what was
expected. Order of precedence: default < file < environment (SLIPWAY_HOSTS_WORKERS) < flag
(--set hosts.workers=3).
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from infra.core.context import Context
from infra.core.errors import UsageError
from infra.core.schema import Settings, leaves
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
        tree.setdefault(section, {})[name] = _at(fields[key], value, base)
        sources[key] = source

    if request.config is not None:
        for key, (value, line) in _file(request.config, fields, problems).items():
            put(key, value, Source("file", f"{request.config}:{line}", str(value)), request.config.parent)
    variables = {variable(key): key for key in fields}
    for name, text in sorted(request.environment.items()):
        if name in variables:
            put(
                variables[name],
                _parse(fields[variables[name]], text),
                Source("environment", name, text),
                Path.cwd(),
            )
        elif name.startswith("SLIPWAY_") and name not in OTHER_VARIABLES:
            problems.append(f"{name}: no such setting{_near(name, variables)}")
    for flag in request.flags:
        key, equals, text = flag.partition("=")
        if not equals:
            problems.append(f"--set {flag}: expected KEY=VALUE, e.g. --set hosts.workers=3")
        elif key not in fields:
            problems.append(f"--set {key}: no such setting{_near(key, fields)}")
        else:
            put(key, _parse(fields[key], text), Source("flag", f"--set {key}", text), Path.cwd())

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
            problems.append(f"{at(key)}: {_sentence(item['msg'])}, got {got!r}")
        return Settings()
    problems += [f"{at(key)}: {what}" for key, what in settings.contradictions()]
    return settings


def _file(path: Path, fields: Mapping[str, FieldInfo], problems: list[str]) -> dict[str, tuple[Any, int]]:
    """Dotted key -> (value, line) of a settings file; unknown and repeated keys become problems."""
    found: dict[str, tuple[Any, int]] = {}
    sections = {key.split(".")[0] for key in fields}
    for section, body in _pairs(_compose(path), path, "", problems):
        line = section.start_mark.line + 1
        if section.value not in sections:
            problems.append(
                f"{path}:{line}: {section.value}: no such section{_near(section.value, sections)}"
            )
            continue
        for name, node in _pairs(body, path, section.value, problems):
            key, line = f"{section.value}.{name.value}", name.start_mark.line + 1
            if key in fields:
                found[key] = (yaml.SafeLoader("").construct_object(node, deep=True), line)
            else:
                problems.append(f"{path}:{line}: {key}: no such key{_near(key, fields)}")
    return found


def _compose(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", action="give an existing file with --config"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error


def _pairs(
    node: yaml.Node | None, path: Path, section: str, problems: list[str]
) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """The keys and values of a mapping; an empty one has none, anything else is a problem."""
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
        return []
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        wanted = f"keys below {section}:" if section else "sections such as hosts:"
        problems.append(
            f"{path}:{line}: expected {wanted}, got {type(node).__name__.removesuffix('Node').lower()}"
        )
        return []
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if key.value in seen:
            problems.append(
                f"{path}:{key.start_mark.line + 1}: {key.value}: given twice, first in line {seen[key.value]}"
            )
        seen.setdefault(key.value, key.start_mark.line + 1)
    return list(node.value)


def _near(name: str, known: Mapping[str, Any] | set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean {close[0]}?"
        if close
        else f"; known: {', '.join(sorted(known))}"
        if len(known) < 12
        else ""
    )


def _sentence(message: str) -> str:
    short = message.removeprefix("Value error, ").replace("Input should be", "expected")
    return re.sub(r", (unable to parse string|got a number).*$", "", short)


def _kinds(info: FieldInfo) -> set[Any]:
    """The plain types in a field's annotation, optional and annotated ones unwrapped."""
    out: set[Any] = set()
    todo: list[Any] = [info.annotation]
    while todo:
        kind = todo.pop()
        origin = get_origin(kind)
        if origin is Annotated:
            todo.append(get_args(kind)[0])
        elif origin in (Union, types.UnionType):
            todo += get_args(kind)
        else:
            out.add(origin or kind)
    return out


def _parse(info: FieldInfo, text: str) -> Any:
    """A value from the environment or a flag: lists are comma-separated."""
    if tuple in _kinds(info):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _at(info: FieldInfo, value: Any, base: Path) -> Any:
    """Paths relative to where they were written."""
    if Path in _kinds(info) and isinstance(value, str):
        return (base / Path(value).expanduser()).resolve()
    return value
