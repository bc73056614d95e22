"""Where settings are read from: a YAML file with its lines, words of the environment and of flags."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from infra.core.errors import UsageError

# After a scheme, or with the colon before a password; `admin@cluster` (a context, an account) is no secret.
# To the last @, whatever comes before it: a password need not be written as an address wants it.
_LOGIN = re.compile(r"""(?<=://).*@|[^\s'"/:@]*:(?!//).*@""", re.DOTALL)


def without_login(text: str) -> str:
    """A setting's text as it may be shown: no address keeps the login in it."""
    return _LOGIN.sub("***@", text)


def in_file(path: Path, fields: Mapping[str, FieldInfo], problems: list[str]) -> dict[str, tuple[Any, int]]:
    """Dotted key -> (value, line) of a settings file; unknown and repeated keys become problems."""
    found: dict[str, tuple[Any, int]] = {}
    sections = {key.split(".")[0] for key in fields}
    for section, body in _pairs(_compose(path), path, "", problems):
        line = section.start_mark.line + 1
        if section.value not in sections:
            problems.append(f"{path}:{line}: {section.value}: no such section{near(section.value, sections)}")
            continue
        for name, node in _pairs(body, path, section.value, problems):
            key, line = f"{section.value}.{name.value}", name.start_mark.line + 1
            if key in fields:
                found[key] = (yaml.SafeLoader("").construct_object(node, deep=True), line)
            else:
                problems.append(f"{path}:{line}: {key}: no such key{near(key, fields)}")
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
        raise UsageError(
            f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}",
            action="correct it there: it holds sections of `key: value`; `slipway settings` lists the keys",
        ) from error


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


def near(name: str, known: Mapping[str, Any] | set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean {close[0]}?"
        if close
        else f"; known: {', '.join(sorted(known))}"
        if len(known) < 12
        else ""
    )


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


def parsed(info: FieldInfo, text: str) -> Any:
    """A value from the environment or a flag: lists are comma-separated."""
    if tuple in _kinds(info):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def located(info: FieldInfo, value: Any, base: Path) -> Any:
    """Paths relative to where they were written; an address where one may stand is none."""
    kinds = _kinds(info)
    if Path in kinds and isinstance(value, str) and not (str in kinds and "://" in value):
        return (base / Path(value).expanduser()).resolve()
    return value
