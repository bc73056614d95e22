"""A settings file: sections of keys, each value as it is written, with its line.

YAML's own types are not asked: a value is text, a list of texts or nothing, as it is in a variable or flag,
and the schema says what it has to be. So no tag, date, octal number or alias means anything else here than
what a reader sees, and none can fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.core.errors import UsageError
from slipway.core.schema import PER_MODEL
from slipway.core.setting_types import A_MODEL_NAME, MODEL_NAME
from slipway.core.user_files import printable, text_of
from slipway.settings.sources import near, variable

_TAGS = "tag:yaml.org,2002:"
# What YAML makes of plain words by itself; any other tag is somebody's own, or of another kind
_PLAIN = frozenset(f"{_TAGS}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value"))
_LEVELS = 8  # models, their names, sections, keys, lists: five
_GO_ON = "correct it there: it holds sections of `key: value`; `slipway settings` lists the keys"
_KINDS: Mapping[type[yaml.Node], str] = {
    yaml.ScalarNode: "a single value",
    yaml.SequenceNode: "a list",
    yaml.MappingNode: "keys and values",
}


@dataclass(frozen=True)
class Written:
    """A value of the file. text: as it is written there, for messages. line: of its key."""

    value: str | list[str] | None
    text: str
    line: int


def in_file(path: Path, fields: Mapping[str, Any], problems: list[str]) -> dict[str, Written]:
    """Dotted key -> what is written for it. What cannot be a setting becomes a problem with its line.

    Of several models the key `models` has the names, and models.NAME.deploy.replicas what is NAME's own.
    Raises UsageError for a file that cannot be read or is not YAML.
    """
    text = text_of(path, action="give an existing file with --config")
    reader = _Reader(path, text, fields, problems)
    return reader.settings(_compose(path, text))


class _Loader(yaml.SafeLoader):
    """A composer that does not follow nesting down to the end of Python's stack."""

    level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.level += 1
        if self.level > _LEVELS:
            # the types of PyYAML know neither of these two
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "nested deeper than sections, keys and lists", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.level -= 1


def _compose(path: Path, text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _not_yaml(path, line, f"the character U+{error.character:04X} is not allowed") from error
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or ""
        if problem.startswith("but ") and error.context:
            problem = f"{error.context}, {problem}"
        if "'\\t'" in problem:
            problem += "; indent with blanks, not with tabs"
        raise _not_yaml(path, mark.line + 1 if mark else 1, problem) from error
    except (ValueError, OverflowError) as error:  # an escape that is no character, a version of 5,000 digits
        raise _not_yaml(path, loader.line + 1, str(error)) from error
    finally:
        loader.dispose()


def _not_yaml(path: Path, line: int, problem: str) -> UsageError:
    return UsageError(f"{path}:{line}: not YAML: {printable(problem, 200)}", action=_GO_ON)


class _Reader:
    """The nodes of a file turned into settings."""

    def __init__(self, path: Path, text: str, fields: Mapping[str, Any], problems: list[str]) -> None:
        self.path = path
        self.text = text
        self.fields = fields
        self.problems = problems

    def settings(self, root: yaml.Node | None) -> dict[str, Written]:
        found: dict[str, Written] = {}
        sections = {key.split(".")[0] for key in self.fields}
        for section, body in self._pairs(root, ""):
            if section.value == "models":
                found |= self._models(section, body)
            elif section.value in sections:
                found |= self._section("", section, body)
            else:
                known = sections | {"models"}
                self._problem(section, f"{section.value}: no such section{near(section.value, known)}")
        return found

    def _models(self, key: yaml.Node, node: yaml.Node) -> dict[str, Written]:
        """The names of the models, under `models`, and what is written for each."""
        names: list[str] = []
        found: dict[str, Written] = {}
        for name, sections in self._pairs(node, "models"):
            place = f"models.{name.value}"
            if not MODEL_NAME.fullmatch(name.value):
                self._problem(name, f"{place}: expected {A_MODEL_NAME}")
                continue
            names.append(name.value)
            for section, body in self._pairs(sections, place):
                if section.value in PER_MODEL:
                    found |= self._section(f"{place}.", section, body)
                else:
                    known = near(section.value, set(PER_MODEL))
                    self._problem(section, f"{place}.{section.value}: no section of a model's{known}")
        written = Written(names, " ".join(names), key.start_mark.line + 1)
        return {"models": written, **found} if names else {}

    def _section(self, before: str, section: yaml.ScalarNode, body: yaml.Node) -> dict[str, Written]:
        """What is written in one section; before: the model whose own it is, as `models.mnist.`"""
        found: dict[str, Written] = {}
        for name, node in self._pairs(body, f"{before}{section.value}"):
            leaf = f"{section.value}.{name.value}"
            key = f"{before}{leaf}"
            if leaf not in self.fields:
                self._problem(name, f"{key}: no such key{near(leaf, self.fields)}")
            elif (value := self._value(key, name, node)) is not _NOTHING:
                found[key] = Written(value, self._written(node), name.start_mark.line + 1)
        return found

    def _problem(self, node: yaml.Node, what: str) -> None:
        self.problems.append(f"{self.path}:{node.start_mark.line + 1}: {what}")

    def _pairs(self, node: yaml.Node | None, section: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The keys and values of a mapping, none for an empty one. Anything else becomes a problem."""
        if node is None or node.tag == f"{_TAGS}null":
            return
        if not isinstance(node, yaml.MappingNode):
            below = "names" if section == "models" else "keys"
            wanted = f"{below} below {section}:" if section else "sections such as hosts:"
            self._problem(node, f"expected {wanted}, got {_KINDS[type(node)]}")
            return
        if node.tag != f"{_TAGS}map":
            self._problem(node, f"{section or 'the file'}: {_tag(node)} is not read here: write plain keys")
            return
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, f"expected a name as key, got {_KINDS[type(key)]}")
            elif key.tag == f"{_TAGS}merge":
                self._problem(key, f"{section or 'sections'}: << is not read here: write the keys out")
            elif key.value in seen:
                self._problem(key, f"{key.value}: given twice, first in line {seen[key.value]}")
            else:
                seen[key.value] = key.start_mark.line + 1
                yield key, value

    def _value(self, key: str, name: yaml.Node, node: yaml.Node) -> Any:
        """Text, a list of texts or None; _NOTHING after telling why it is none of them."""
        by_hand = "write the value itself"
        if not key.startswith("models."):
            by_hand += f", or set the variable {variable(key)}"
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _PLAIN or node.tag == f"{_TAGS}merge":
                return None if node.tag == f"{_TAGS}null" else node.value
            self._problem(name, f"{key}: {_tag(node)} is not read here: {by_hand}")
        elif not isinstance(node, yaml.SequenceNode):
            self._problem(name, f"{key}: expected a value or a list of values, got {_KINDS[type(node)]}")
        elif node.tag != f"{_TAGS}seq":
            self._problem(name, f"{key}: {_tag(node)} is not read here: {by_hand}")
        else:
            odd = next(
                (each for each in node.value if each.tag not in _PLAIN - {f"{_TAGS}null"}),
                None,
            )
            if odd is None:
                return [each.value for each in node.value]
            got = _tag(odd) if isinstance(odd, yaml.ScalarNode) else _KINDS[type(odd)]
            self._problem(name, f"{key}: expected a list of single values, got {got} in it")
        return _NOTHING

    def _written(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        return " ".join(self.text[node.start_mark.index : node.end_mark.index].split())


_NOTHING = object()


def _tag(node: yaml.Node) -> str:
    """A tag for people, as it is written: `the tag !vault`, `the tag !!set`, or what a plain word means."""
    if node.tag == f"{_TAGS}null":
        return "nothing"
    return f"the tag {node.tag.replace(_TAGS, '!!')}"
