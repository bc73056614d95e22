"""Imports go one way, subprocess has one home, and what the stack is stays apart from what drives it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "infra").rglob("*.py"), *(ROOT / "stacks").rglob("*.py")])

# Outermost first: a layer may import its own and the ones below it.
LAYERS = (
    {"cli"},
    {"overview"},
    {"pipeline"},
    {"settings", "hosts", "provision", "model", "image", "deploy", "smoke", "report"},
    {"backends", "artifacts", "cluster", "images", "reports", "mnist", "rollout", "proving"},
    {"clients"},
    {"model_server"},
    {"predict"},
    {"core"},
)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def layer(part: str) -> int | None:
    return next((index for index, parts in enumerate(LAYERS) if part in parts), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    own = layer(parts[1].removesuffix(".py")) if parts[0] == "infra" else None
    for name, line in imports(path):
        words = name.split(".")
        if parts[0] == "stacks":
            assert words[0] != "infra", f"{path}:{line}: the stack knows nothing of its driver"
        elif words[0] == "stacks":
            allowed = words[1:2] == ["outputs"] or path.name == "pulumi_stack.py"
            assert allowed, f"{path}:{line}: infra imports stacks.outputs only"
        elif words[0] == "infra" and len(words) > 1 and own is not None:
            other = layer(words[1])
            if other is not None:
                assert own <= other, f"{path}:{line}: {name} lies above {parts[1]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_home_for_each_power(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    homes = {"subprocess": "infra/core/process.py", "rich": "infra/core/console.py", "typer": "infra/cli.py"}
    for name, line in imports(path):
        home = homes.get(name.split(".")[0])
        assert home is None or relative == home, f"{relative}:{line}: {name} is {home}'s alone"


def test_every_part_is_in_a_layer() -> None:
    parts = {
        path.relative_to(ROOT / "infra").parts[0].removesuffix(".py")
        for path in (ROOT / "infra").rglob("*.py")
    }
    assert parts - {"__init__"} <= set().union(*LAYERS)


def test_no_file_of_the_stack_hides_a_standard_module() -> None:
    import sys

    assert not {path.stem for path in (ROOT / "stacks").glob("*.py")} & set(sys.stdlib_module_names) - {
        "__main__"
    }
