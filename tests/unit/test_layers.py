"""Imports go one way, each power has one home, and what is deployed stays apart from what drives it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "infra").rglob("*.py"), *(ROOT / "stacks").rglob("*.py")])
PRODUCTS = ("slipway", "slipway_client", "slipway_server", "slipway_stacks")

# The driver, outermost first: a layer may import its own and the ones below it.
STAGES = ("settings", "hosts", "provision", "model", "serve", "image", "deploy", "smoke", "report")
LAYERS = (
    {"cli"},
    {"status"},
    {"pipeline"},
    set(STAGES),
    {"artifacts"},
    {"clients"},
    {"core"},
)
# What a product may import of the others. The image stage packs the server, it runs nothing of it.
ALLOWED = {
    "slipway": {"slipway", "slipway_client", "slipway_server", "slipway_stacks"},
    "slipway_client": {"slipway_client"},
    "slipway_server": {"slipway_server", "slipway_client"},
    "slipway_stacks": {"slipway_stacks"},
}


NEED_NO_ENGINE = ("outputs", "offers", "cloud_init", "machine_inputs")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def product(path: Path) -> str:
    """The package a file belongs to; the Pulumi program itself counts as the stack's."""
    part = path.relative_to(ROOT).parts[1]
    return part if part in PRODUCTS else "slipway_stacks"


def driver_part(path: Path) -> str:
    return path.relative_to(ROOT / "infra" / "slipway").parts[0].removesuffix(".py")


def layer(part: str) -> int | None:
    return next((index for index, parts in enumerate(LAYERS) if part in parts), None)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_product_imports_only_those_it_is_installed_with(path: Path) -> None:
    for name, line in imports(path):
        top = name.partition(".")[0]
        if top in PRODUCTS:
            assert top in ALLOWED[product(path)], f"{path}:{line}: {name}"


@pytest.mark.parametrize("path", [path for path in FILES if product(path) == "slipway"], ids=ids)
def test_imports_go_one_way(path: Path) -> None:
    part = driver_part(path)
    own = layer(part)
    for name, line in imports(path):
        words = name.split(".")
        if words[0] == "slipway_stacks":
            allowed = words[1] in NEED_NO_ENGINE or path.name == "pulumi_render.py"
            assert allowed, f"{path}:{line}: of slipway_stacks the driver imports what needs no engine"
        elif words[0] == "slipway" and len(words) > 1 and own is not None:
            other = layer(words[1])
            if other is not None:
                assert own <= other, f"{path}:{line}: {name} lies above {part}"
            if part in STAGES and words[1] in STAGES:
                assert words[1] == part, f"{path}:{line}: stages meet in core's values only"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_one_home_for_each_power(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    homes = {
        "subprocess": "infra/slipway/core/process.py",
        "fcntl": "infra/slipway/core/lock.py",
        "rich": "infra/slipway/core/console.py",
        "typer": "infra/slipway/cli/",
    }
    for name, line in imports(path):
        home = homes.get(name.split(".")[0])
        assert home is None or relative.startswith(home), f"{relative}:{line}: {name} is {home}'s alone"


def test_every_part_is_in_a_layer() -> None:
    parts = {driver_part(path) for path in FILES if product(path) == "slipway"}
    assert parts - {"__init__"} <= set().union(*LAYERS)


def test_no_file_of_the_program_hides_a_standard_module() -> None:
    import sys

    assert not {path.stem for path in (ROOT / "stacks").glob("*.py")} & set(sys.stdlib_module_names) - {
        "__main__"
    }
