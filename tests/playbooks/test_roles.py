"""Roles against their own words: specs, defaults, READMEs, names, and the syntax of every playbook."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.core import process

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
ROLES = sorted(path for path in (PLAYBOOKS / "roles").iterdir() if path.is_dir())
NAMES = [role.name for role in ROLES]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def tasks(path: Path) -> list[dict[str, Any]]:
    """Every task of a file, those in blocks included."""
    out = []
    pending = list(read(path) or [])
    while pending:
        task = pending.pop(0)
        out.append(task)
        for part in ("block", "rescue", "always"):
            pending += task.get(part, [])
    return out


def task_files(role: Path) -> list[Path]:
    return sorted([*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")])


def test_site_imports_every_layer() -> None:
    layers = [play["ansible.builtin.import_playbook"] for play in read(PLAYBOOKS / "site.yml")]
    assert layers == ["preflight.yml", "docker.yml", "registry.yml", "kubernetes.yml"]


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_spec_and_defaults_name_the_same_variables(role: Path) -> None:
    spec = read(role / "meta/argument_specs.yml")["argument_specs"]
    described = {name for entry in spec.values() for name in entry.get("options", {})}
    assert described == set(read(role / "defaults/main.yml"))


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_a_literal_default_is_the_same_in_spec_and_defaults(role: Path) -> None:
    defaults = read(role / "defaults/main.yml")
    for entry in read(role / "meta/argument_specs.yml")["argument_specs"].values():
        for name, option in entry.get("options", {}).items():
            default = defaults[name]
            if option.get("required") or (isinstance(default, str) and "{{" in default):
                continue
            assert option["default"] == default, name


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_variables_say_by_their_spelling_who_sets_them(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in read(role / "defaults/main.yml"))
    vars_file = role / "vars/main.yml"
    if vars_file.is_file():
        assert all(name.startswith(f"_{role.name}_") for name in read(vars_file))
    for file in task_files(role):
        for task in tasks(file):
            assert task.get("register", f"__{role.name}_").startswith(f"__{role.name}_"), task["name"]


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_every_task_is_named_and_no_error_is_ignored(role: Path) -> None:
    for file in task_files(role):
        text = file.read_text()
        for task in tasks(file):
            assert task.get("name", "")[:1].isupper(), f"{file}: {task}"
            assert "ignore_errors" not in task, f"{file}: {task['name']}"
        hidden = re.findall(r"no_log: true(.*)", text)
        assert all(reason.strip().startswith("#") for reason in hidden), f"{file}: no_log without its reason"


def test_variables_used_in_tasks_exist() -> None:
    """A misspelt variable would only show on a real host."""
    known = set()
    for role in ROLES:
        for file in [role / "defaults/main.yml", role / "vars/main.yml"]:
            known |= set(read(file)) if file.is_file() else set()
    used: dict[str, Path] = {}
    for role in ROLES:
        for file in [*role.rglob("*.yml"), *role.rglob("*.j2")]:
            for name in re.findall(rf"(?<![\w.'/])_?(?:{'|'.join(NAMES)})_[a-z_]+", file.read_text()):
                used[name] = file
    registered = {
        task["register"]
        for role in ROLES
        for file in task_files(role)
        for task in tasks(file)
        if "register" in task
    }
    local = {
        name
        for role in ROLES
        for file in task_files(role)
        for task in tasks(file)
        for name in [*task.get("vars", {}), task.get("loop_control", {}).get("loop_var", "")]
    }
    tags = {f"{role}_{part}" for role in NAMES for part in ("install", "configure", "run")}
    hosts_facts = {"control_plane", "kubernetes_node"}
    unknown = {
        name: str(file)
        for name, file in used.items()
        if name not in known | registered | local | tags | hosts_facts and not name.startswith("__")
    }
    assert not unknown


def test_readmes_are_what_the_specs_say() -> None:
    pages = runpy.run_path(str(PLAYBOOKS / "readmes.py"))["pages"]()
    assert sorted(path.parent.name for path in pages) == NAMES
    stale = [str(path) for path, text in pages.items() if not path.is_file() or path.read_text() != text]
    assert not stale, "run `python playbooks/readmes.py`"


@pytest.mark.parametrize("folder", [PLAYBOOKS.parent, PLAYBOOKS], ids=["root", "playbooks"])
def test_playbooks_parse_from_both_folders(folder: Path, ansible: str) -> None:
    books = sorted(path for path in PLAYBOOKS.glob("*.yml"))
    assert len(books) >= 7
    words = [str(book.relative_to(folder)) for book in books]
    example = PLAYBOOKS / "inventory" / "example.yml"
    process.run([ansible, "-i", example, "--syntax-check", *words], cwd=folder, timeout=120)
