"""The pages of the documentation that are made from the code, so that they cannot fall behind it.

In: the settings schema, the roles' argument_specs, the stack's inputs and the command line. Out: Markdown
pages, added while `mkdocs build` runs (mkdocs.yml names this file under `hooks`); none of them is kept in
git.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import runpy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slipway_client.__main__
import slipway_server.__main__
import typer.main
from slipway.cli.app import app
from slipway.core.schema import Settings, leaves
from slipway.settings.sources import variable
from slipway_stacks import several
from slipway_stacks.inputs import Inputs
from slipway_stacks.machine_inputs import MachineInputs

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages that live at the root of the repository, where people and hosting sites look for them.
AT_THE_ROOT = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}
# The commands of the other two products
PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {
    "slipway-prove": slipway_client.__main__.main,
    "slipway-model-server": slipway_server.__main__.main,
}
HELP_COLUMNS = 100


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown, for every page that is made and not written."""
    return {
        "reference/settings.md": settings_page(),
        "reference/stack.md": stack_page(),
        "reference/machines.md": machines_page(),
        "reference/command_line.md": command_line_page(),
        **{f"reference/roles/{role}.md": text for role, text in role_pages().items()},
        **{
            page: within_the_site((ROOT / source).read_text(encoding="utf-8"), source)
            for page, source in AT_THE_ROOT.items()
        },
    }


def settings_page() -> str:
    """Every key of slipway.yaml: type, default and meaning, one table a section."""
    schema = Settings.model_json_schema()
    out = [
        "# Settings",
        "",
        "Every key of `slipway.yaml`. All are optional, and every mistake is reported at once, with file, "
        "line and key.",
        "",
        f"A key is also a variable (`hosts.workers` is `{variable('hosts.workers')}`) and a flag"
        " (`--set hosts.workers=3`). A flag wins over a variable, a variable over the file, the file over "
        "the default.",
        "`slipway settings` lists the values in force and where each comes from; "
        "`slipway settings --schema` prints the JSON Schema.",
        "",
        "A key without a default is not passed on until it is set; then the default of the role"
        " ([roles](roles/docker.md)) or of the stack ([stack inputs](stack.md)) counts, or what the meaning "
        "says.",
    ]
    section = ""
    for key, info in leaves().items():
        name, _, leaf = key.partition(".")
        described = schema["$defs"][schema["properties"][name]["$ref"].rpartition("/")[2]]
        if name != section:
            section = name
            out += ["", f"## {name}", "", described["description"], ""]
            out += ["| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        kind = _type(described["properties"][leaf])
        out.append(f"| `{key}` | {kind} | {_value(info.default)} | {_cell(info.description)} |")
    described = " ".join(str(schema["properties"]["models"]["description"]).split())
    out += [
        "",
        "## models",
        "",
        f"{described[0].upper()}{described[1:]}. "
        "[Several models](../deploy.md#several-models) has an example.",
        "",
        "A model's keys are those of the sections above, written below its name; they are no variables. One "
        "is set by `--set models.NAME.deploy.replicas=3`. Of the file a model's own key wins over the "
        "section's; a variable or a flag for the section's key wins over both.",
    ]
    return "\n".join([*out, ""])


def _type(schema: dict[str, Any]) -> str:
    """A type of JSON Schema in words, with its limits."""
    if "anyOf" in schema:
        parts = [_type(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    if "enum" in schema:
        return "one of " + ", ".join(f"`{word}`" for word in schema["enum"])
    kind = "path" if schema.get("format") == "path" else schema["type"]
    if kind == "array":
        return f"list of {_type(schema['items']).removeprefix('one of ')}"
    names = {"integer": "whole number", "boolean": "true or false", "string": "text"}
    return names.get(kind, kind) + _limits(schema)


def _limits(schema: dict[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high = schema.get("maximum")
    words = [
        f"from {low:,}" if low is not None else "",
        f"above {above:,}" if above is not None else "",
        f"to {high:,}" if high is not None else "",
    ]
    return "".join(f" {word}" for word in words if word)


def stack_page() -> str:
    """Every input of the Pulumi program: what it accepts, its default and its meaning."""
    out = [
        "# Stack inputs",
        "",
        "The inputs of the Pulumi program: `pulumi config set KEY VALUE`, or the stack's file in "
        "`stacks/envs`, where a key is written `slipway:KEY`. Every mistake is reported at once. "
        "[Deploy](../deploy.md) says what the program makes.",
        "",
        "| Key | Accepts | Default | Meaning |",
        "| --- | --- | --- | --- |",
    ]
    for item in fields(Inputs):
        key, meaning = item.metadata["key"], item.metadata["meaning"]
        default = "required" if key == "image" else _value(None if item.default is MISSING else item.default)
        out.append(f"| `{key}` | {_cell(item.metadata['kind'].expected)} | {default} | {_cell(meaning)} |")
    out += [
        "",
        f"`{several.KEY}` makes several models of one stack: {several.EXPECTED}. Each differs from the "
        "stack's other keys in those that it has itself. "
        "[Several models in a stack](../deploy.md#several-models-in-a-stack-of-your-own) has an example.",
    ]
    return "\n".join([*out, ""])


def machines_page() -> str:
    """Every input of the program that makes machines: what it accepts, its default and its meaning."""
    out = [
        "# Inputs of machines",
        "",
        "The inputs of the Pulumi program in `stacks/machines`, which `slipway hosts create` runs: "
        "`pulumi config set KEY VALUE`. Every mistake is reported at once. "
        "[Machines in a cloud](../cloud.md) says what it makes and how to run it by hand.",
        "",
        "| Key | Accepts | Default | Meaning |",
        "| --- | --- | --- | --- |",
    ]
    for item in fields(MachineInputs):
        key, meaning = item.metadata["key"], item.metadata["meaning"]
        default = _value(item.default or None)
        out.append(f"| `{key}` | {_cell(item.metadata['kind'].expected)} | {default} | {_cell(meaning)} |")
    out.append("| `keys` | a path | | folder with the key that each machine shows, NAME and NAME.pub |")
    out.append("| `name` | a name | `slipway` | what everything is called after |")
    return "\n".join([*out, ""])


def role_pages() -> dict[str, str]:
    """Role -> its README, which playbooks/readmes.py makes from argument_specs and defaults."""
    made: dict[Path, str] = runpy.run_path(str(ROOT / "playbooks" / "readmes.py"))["pages"]()
    return {path.parent.name: text for path, text in made.items()}


def command_line_page() -> str:
    """The whole --help of every command."""
    out = ["# Command line", "", "What `--help` prints, command by command."]
    for words, command in _commands(typer.main.get_command(app), ("slipway",)):
        context = command.make_context(
            " ".join(words),
            [],
            resilient_parsing=True,
            max_content_width=HELP_COLUMNS,
            terminal_width=HELP_COLUMNS,
        )
        out += _help(" ".join(words), command.get_help(context))
    for name, main in PROGRAMS.items():
        out += _help(name, _printed(main))
    return "\n".join([*out, ""])


def _help(title: str, text: str) -> list[str]:
    return ["", f"## {title}", "", "```text", text.rstrip(), "```"]


def _printed(main: Callable[[Sequence[str]], int]) -> str:
    """What a program prints for --help, in lines of HELP_COLUMNS."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(HELP_COLUMNS)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main(["--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return out.getvalue()


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and those below it, each with the words that call it."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _commands(below, (*words, name))


def within_the_site(text: str, page: str) -> str:
    """A page's Markdown with links as the site has them. What the site does not have is named, not linked.

    page: where the text stands in the repository, such as docs/decisions/README.md. Links then hold in both
    places: in the repository and in the site.
    """
    folder = posixpath.dirname(page)

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        file = posixpath.normpath(posixpath.join(folder, target))
        made = next((name for name, source in AT_THE_ROOT.items() if source == file), None)
        if made is None and not file.startswith("docs/"):
            return words
        here = "." if page in AT_THE_ROOT.values() else posixpath.relpath(folder, "docs")
        return f"[{words}]({posixpath.relpath(made or posixpath.relpath(file, 'docs'), here)}{anchor})"

    return re.sub(r"\[([^]]+)\]\(([\w./-]+)(#[\w-]+)?\)", link, text)


def _value(value: object) -> str:
    """A default as it is written in a settings file; empty for a key without one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(each) for each in value)}]`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the page of each role in the navigation, so that a new role needs no second entry."""
    assert config.nav is not None  # mkdocs.yml has one
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference.append({"Roles": [{role: f"reference/roles/{role}.md"} for role in role_pages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that were found in docs/."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_others: object) -> str:
    """Let the pages of docs/ link to the files at the root."""
    if page.file.generated_by is not None:
        return markdown
    return within_the_site(markdown, f"docs/{page.file.src_uri}")
