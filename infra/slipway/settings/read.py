"""slipway.yaml, the environment and flags -> Settings, each value with its source.

In: a Request. Out: Settings. Every problem is reported at once, with file, line, key and what was
expected. Order of precedence: default < file < environment (SLIPWAY_HOSTS_WORKERS) < flag
(--set hosts.workers=3). Of what came by the same way a model's own key wins over that of the section: a flag
deploy.replicas counts for every model, whatever the file says of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from slipway.core.errors import UsageError
from slipway.core.ownership import SAFE_FOLDERS
from slipway.core.schema import PER_MODEL, Settings, leaves
from slipway.core.user_files import printable
from slipway.settings.sources import located, model_and_key, near, parsed, variable, without_login
from slipway.settings.yaml_file import in_file

# Variables that are slipway's but not settings.
OTHER_VARIABLES = frozenset({"SLIPWAY_CACHE", SAFE_FOLDERS})
LONGEST = 4096  # characters of one value: a path has no more
MOST = 50  # problems that are shown
_RANK = {"file": 0, "environment": 1, "flag": 2}


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
        model, leaf = model_and_key(key)
        section, name = leaf.split(".", 1)
        place = tree["models"][model] if model else tree
        try:
            if len(source.text) > LONGEST:
                raise ValueError(f"a value has at most {LONGEST:,} characters, this one {len(source.text):,}")
            place.setdefault(section, {})[name] = located(fields[leaf], value, base)
        except ValueError as error:
            problems.append(f"{source.where}: {key}: {error}")
        sources[key] = source

    if request.config is not None:
        written = in_file(request.config, fields, problems)
        if (named := written.pop("models", None)) is not None:
            tree["models"] = {name: {} for name in named.value or ()}
            sources["models"] = Source("file", f"{request.config}:{named.line}", named.text)
        for key, given in written.items():
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
        elif wrong := _no_setting(key, fields, tree.get("models", {})):
            problems.append(f"--set {key}: {wrong}")
        else:
            field_ = fields[model_and_key(key)[1]]
            put(key, parsed(field_, text), Source("flag", f"--set {key}", text), Path.cwd())
    _drop_outranked(tree, sources)

    settings = _validated(tree, sources, request.config, problems)
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError(
            f"{count} in the settings",
            tail="\n".join(_lines(problems)),
            action="`slipway settings` lists every key, its type and meaning",
        )
    return settings, sources


def _no_setting(key: str, fields: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """Why no flag can set this key; empty if one can."""
    model, leaf = model_and_key(key)
    if not key.startswith("models."):
        return "" if key in fields else f"no such setting{near(key, fields)}"
    if model not in models:
        return f"there is no model {model} below models: in the settings file{near(model, models)}"
    own = [each for each in fields if each.split(".")[0] in PER_MODEL]
    return "" if leaf in own else f"no such setting of a model's{near(leaf, set(own))}"


def _drop_outranked(tree: dict[str, Any], sources: dict[str, Source]) -> None:
    """Leave out what is a model's own in the file, where variable or flag give the key for all models."""
    for key in [key for key in sources if key.startswith("models.")]:
        model, leaf = model_and_key(key)
        if leaf in sources and _RANK[sources[leaf].kind] > _RANK[sources[key].kind]:
            section, name = leaf.split(".", 1)
            tree["models"][model][section].pop(name, None)
            del sources[key]


def _validated(
    tree: dict[str, Any], sources: dict[str, Source], config: Path | None, problems: list[str]
) -> Settings:
    def at(key: str) -> str:
        named = "models" if key.startswith("models.") else ""  # the line of a model's key that is not given
        where = sources.get(key) or sources.get(named)
        return f"{where.where if where else config or 'settings'}: {key}"

    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        for item in error.errors():
            loc = item["loc"]
            key = ".".join(str(part) for part in loc[: 4 if loc[0] == "models" else 2])
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
