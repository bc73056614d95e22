"""docs/architecture.md says what the code does, as far as names go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from slipway import pipeline
from slipway.core.stage import Stage, name_of, needs, produces

from tests.unit.test_layers import LAYERS
from tests.unit.test_layers import STAGES as PACKAGES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STAGES = {name_of(stage): stage for stage in pipeline.STAGES}


def row(name: str) -> list[str]:
    """The cells of a stage's row in the table of the chain."""
    (line,) = re.findall(rf"^\| {name} \|.*$", PAGE, re.M)
    return [cell.strip() for cell in line.strip("|").split("|")]


def values(cell: str) -> list[str]:
    return re.findall(r"`([A-Z]\w+)`", cell)


@pytest.mark.parametrize(("name", "stage"), STAGES.items())
def test_a_stages_row_names_what_comes_in_and_goes_out(name: str, stage: Stage) -> None:
    _, comes, goes, _ = row(name)
    assert values(comes) == [kind.__name__ for kind, _ in needs(stage).values()]
    assert values(goes) == [produces(stage).__name__]


def test_the_table_and_the_line_above_it_have_the_order_of_the_chain() -> None:
    chain = ["settings", *STAGES, "report"]
    assert list(PACKAGES) == chain
    table = re.findall(r"^\| (\w+) \|", PAGE.partition("## The state folder")[0], re.M)
    assert table[1:] == chain
    (line,) = re.findall(r"^slipway\.yaml -> (.*)$", PAGE, re.M)
    assert line.split(" -> ") == chain[1:]


def test_the_layout_lists_each_folder_of_the_products_the_stages_in_order() -> None:
    layout = PAGE.partition("## The layout")[2].partition("playbooks/ ")[0]
    products = {path.parent.name for path in (ROOT / "infra").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", layout, re.M)) == products
    listed = re.findall(r"^    (\w+)/ ", layout, re.M)
    assert set(listed) == {path.parent.name for path in (ROOT / "infra" / "slipway").glob("*/__init__.py")}
    assert [name for name in listed if name in PACKAGES] == list(PACKAGES)


def test_imports_go_as_the_page_says() -> None:
    flat = " ".join(PAGE.split())
    (said,) = re.findall(r"Imports go one way: (.*?)\.", flat)
    names = {"stages": set(PACKAGES)}
    assert [names.get(word, {word}) for word in said.split(" -> ")] == list(LAYERS)


def test_every_path_the_page_names_is_there() -> None:
    for path in re.findall(r"`((?:infra|playbooks|stacks|tests)/[\w./*-]+)`", PAGE):
        assert list(ROOT.glob(path)), path
