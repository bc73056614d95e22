"""The pages made from the code name all of it: a key, input, variable or command that is missing fails."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from slipway.cli.app import app
from slipway.core.schema import leaves
from slipway_server.flags import Flags
from slipway_stacks.inputs import Inputs
from slipway_stacks.machine_inputs import MachineInputs

from docs import reference_pages

ROOT = Path(__file__).parents[3]
ROLES = sorted(path.parents[1] for path in (ROOT / "playbooks").rglob("roles/*/meta/argument_specs.yml"))
KEYS = leaves()


def rows(page: str) -> dict[str, list[str]]:
    """First cell, without its backticks -> the other cells, of every row of the page's tables."""
    out: dict[str, list[str]] = {}
    for line in re.findall(r"^\| `.*\|$", page, re.M):
        first, *others = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert first.strip("`") not in out, f"{first} has two rows"
        out[first.strip("`")] = others
    return out


def test_the_page_of_settings_has_every_key_and_no_other() -> None:
    assert list(rows(reference_pages.settings_page())) == list(KEYS)


@pytest.mark.parametrize(("key", "info"), KEYS.items(), ids=KEYS)
def test_a_keys_row_says_its_default_and_what_it_means(key: str, info: Any) -> None:
    kind, default, meaning = rows(reference_pages.settings_page())[key]
    assert kind
    assert meaning == " ".join(info.description.split())
    assert (default == "") == (info.default is None)
    if info.default is not None:
        wanted = [*info.default] if isinstance(info.default, tuple) else info.default
        assert yaml.safe_load(default.strip("`")) == wanted  # as one may write it in slipway.yaml


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("hosts.backend", "one of `nspawn`, `lxd`, `ssh`, `vagrant`, `pulumi`"),
        ("hosts.inventory", "path"),
        ("hosts.mtu", "whole number from 1,280 to 9,000"),
        ("artifacts.sources", "list of `release`, `modules`"),
        ("model.data", "path or text"),
        ("model.hidden", "list of whole number from 1 to 8,192"),
        ("model.learning_rate", "number above 0 to 10"),
        ("model.seed", "whole number from 0"),
        ("smoke.min_accuracy", "number from 0 to 1"),
    ],
)
def test_a_keys_row_says_what_it_takes(key: str, words: str) -> None:
    assert rows(reference_pages.settings_page())[key][0] == words


def test_the_page_of_the_stack_has_every_input_and_no_other() -> None:
    page = rows(reference_pages.stack_page())
    assert list(page) == [item.metadata["key"] for item in fields(Inputs)]
    for item in fields(Inputs):
        accepts, default, meaning = page[item.metadata["key"]]
        assert accepts and meaning == item.metadata["meaning"]
        if item.default in (None, MISSING):
            assert default == ""
        elif item.metadata["key"] != "image":
            assert item.metadata["kind"].parse(default.strip("`")) == item.default


def test_the_page_of_machines_has_every_input_and_no_other() -> None:
    page = rows(reference_pages.machines_page())
    inputs = {item.metadata["key"]: item for item in fields(MachineInputs)}
    assert list(page) == [*inputs, "keys", "name"]
    for key, item in inputs.items():
        accepts, default, meaning = page[key]
        assert accepts and meaning == item.metadata["meaning"]
        assert default.strip("`") == ("" if item.default in (None, (), "") else str(item.default))


def test_several_models_are_on_both_pages() -> None:
    settings, stack = reference_pages.settings_page(), reference_pages.stack_page()
    assert "## models\n\nSeveral models, each with a deployment of its own" in settings
    assert "`--set models.NAME.deploy.replicas=3`" in settings
    assert "`models` makes several models of one stack: a name with its inputs each" in stack


def test_what_a_stack_input_accepts_is_in_its_row() -> None:
    page = rows(reference_pages.stack_page())
    assert page["replicas"][0] == "a whole number from 1 to 10000"
    assert page["spread"][0] == "one of required, preferred"
    assert page["image"][1] == "required"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_page_of_a_role_has_every_variable(role: Path) -> None:
    page = reference_pages.role_pages()[role.name]
    spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    for entry in spec.values():
        assert entry["short_description"] in page
        for variable, option in entry.get("options", {}).items():
            assert re.search(rf"^\| `{variable}` \| {option['type']}\b.*\|$", page, re.M), variable


def test_every_role_has_a_page() -> None:
    assert ROLES
    assert sorted(reference_pages.role_pages()) == [role.name for role in ROLES]


def test_the_page_of_the_command_line_has_every_command_and_flag() -> None:
    page = reference_pages.command_line_page()
    parts = dict(re.findall(r"^## (slipway.*?)\n\n```text\n(.*?)\n```$", page, re.M | re.S))
    wanted: list[tuple[str, Any]] = [("slipway", typer.main.get_command(app))]
    for words, command in wanted:
        wanted += [(f"{words} {name}", below) for name, below in getattr(command, "commands", {}).items()]
        for parameter in command.params:
            for flag in parameter.opts if parameter.param_type_name == "option" else ():
                assert flag in parts[words], f"{words} {flag}"
    assert len(wanted) > 20
    assert set(parts) == {words for words, _ in wanted} | {"slipway-prove", "slipway-model-server"}
    for item in fields(Flags):
        assert f"--{item.name}=" in parts["slipway-model-server"]
    for word in ("usage: slipway-prove ", "HOST:PORT", "--requests FILE", "--ca_file FILE", "exit codes:"):
        assert word in parts["slipway-prove"]


@pytest.mark.parametrize(
    ("page", "link", "within"),
    [
        ("CONTRIBUTING.md", "[a](docs/architecture.md)", "[a](architecture.md)"),
        ("CONTRIBUTING.md", "[a](SECURITY.md)", "[a](security.md)"),
        ("CHANGELOG.md", "[a](docs/decisions/README.md#x)", "[a](decisions/README.md#x)"),
        ("CHANGELOG.md", "[a](infra/slipway/pipeline.py)", "a"),
        ("docs/index.md", "[a](../CONTRIBUTING.md)", "[a](contributing.md)"),
        ("docs/index.md", "[a](model.md)", "[a](model.md)"),
        ("docs/decisions/0001-x.md", "[a](../../SECURITY.md)", "[a](../security.md)"),
        ("docs/decisions/0001-x.md", "[a](0002-y.md)", "[a](0002-y.md)"),
        ("docs/decisions/0001-x.md", "[a](https://example.com/x.md)", "[a](https://example.com/x.md)"),
    ],
)
def test_links_lead_to_the_same_page_in_the_repository_and_in_the_site(
    page: str, link: str, within: str
) -> None:
    assert reference_pages.within_the_site(f"see {link}.", page) == f"see {within}."
