"""The help of every verb: whole sentences, none cut off, every option explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from slipway.cli.app import app

ROOT = typer.main.get_command(app)


def commands(command: Any, path: tuple[str, ...] = ("slipway",)) -> Iterator[tuple[str, Any]]:
    yield " ".join(path), command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


ALL = dict(commands(ROOT))


@pytest.mark.parametrize("name", ALL)
def test_no_sentence_of_a_list_is_cut_off(name: str) -> None:
    context = ALL[name].make_context(name, [], resilient_parsing=True, terminal_width=80)
    _, *lines = ALL[name].get_help(context).splitlines()
    assert not [line for line in lines if line.rstrip().endswith("...")]


@pytest.mark.parametrize("name", ALL)
def test_a_verb_says_what_it_does_in_a_sentence_and_explains_every_option(name: str) -> None:
    command = ALL[name]
    assert command.help.strip().splitlines()[0].endswith(".")
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        assert parameter.help.endswith("."), f"{name}: {parameter.name}: {parameter.help}"
        shown = parameter.metavar or getattr(parameter, "is_flag", False)
        assert shown, f"{name}: {parameter.name} shows a type, not what is meant"


def test_completion_is_on() -> None:
    words = {word for parameter in ROOT.params for word in parameter.opts}
    assert {"--install-completion", "--show-completion"} <= words
