"""The collection slipway.serving as others get it: its archive, what it needs, its documentation, and a role
of it from five lines away from the checkout."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.core import process
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.hosts.nspawn.labs import lab_name
from slipway.hosts.stage import MakeHosts, take_down

from tests.lab_traces import traces

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "playbooks/collections/ansible_collections/slipway/serving"
PLUGINS = sorted(COLLECTION.glob("plugins/*/*.py"))
# What an entry of a module's documentation may hold; a comma in a sentence without quotes makes a new key.
ENTRY = {
    "description",
    "type",
    "elements",
    "required",
    "default",
    "choices",
    "returned",
    "contains",
    "suboptions",
    "aliases",
}


def galaxy() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def archive(ansible: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built collection."""
    folder = tmp_path_factory.mktemp("built")
    tool = Path(ansible).with_name("ansible-galaxy")
    process.run([tool, "collection", "build", COLLECTION, "--output-path", folder], timeout=120)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(ansible: str, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was empty, with the collection in it, installed without a network. Those it needs are in
    Ansible's own package, or this fails."""
    folder = tmp_path_factory.mktemp("installed")
    tool = Path(ansible).with_name("ansible-galaxy")
    words: list[str | Path] = ["collection", "install", archive, "--collections-path", folder, "--offline"]
    process.run([tool, *words], cwd=folder, env=alone(folder), timeout=120)
    return folder


def alone(collections: Path) -> dict[str, str]:
    """What makes Ansible find this folder's collections, beside those it brings along."""
    return {"ANSIBLE_COLLECTIONS_PATH": str(collections), "LC_ALL": "C.UTF-8"}


def test_the_archive_holds_what_the_folder_holds(archive: Path) -> None:
    assert archive.name == f"slipway-serving-{galaxy()['version']}.tar.gz"
    with tarfile.open(archive) as tar:
        names = {member.name for member in tar.getmembers() if member.isfile()}
        file = tar.extractfile("MANIFEST.json")
        assert file is not None
        manifest = json.load(file)["collection_info"]
    there = {
        str(path.relative_to(COLLECTION))
        for path in COLLECTION.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == there - {"galaxy.yml"} | {"MANIFEST.json", "FILES.json"}
    assert manifest["license"] == ["Apache-2.0"]
    assert (COLLECTION / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert set(manifest["dependencies"]) == {"community.crypto", "community.general"}


def test_what_the_roles_use_of_others_is_declared_and_here(ansible: str) -> None:
    text = "\n".join(path.read_text() for path in COLLECTION.glob("roles/**/*.yml"))
    used = set(re.findall(r"\b((?!ansible\.builtin|slipway\.serving)[a-z]+\.[a-z]+)\.[a-z_0-9]+:", text))
    declared = galaxy()["dependencies"]
    assert used == set(declared)
    tool = Path(ansible).with_name("ansible-galaxy")
    words: list[str | Path] = [tool, "collection", "list", "--format", "json"]
    listed = json.loads(process.run(words, env={"LC_ALL": "C.UTF-8"}, timeout=120).stdout)
    found = {name: entry["version"] for folder in listed.values() for name, entry in folder.items()}
    for name, wanted in declared.items():
        numbers = [
            tuple(map(int, version.split("."))) for version in (found[name], wanted.removeprefix(">="))
        ]
        assert numbers[0] >= numbers[1], f"{name} {found[name]}"


def test_every_plugin_is_documented(ansible: str, installed: Path) -> None:
    tool = Path(ansible).with_name("ansible-doc")
    for kind, folder in (("module", "modules"), ("filter", "filter")):
        names = [f"slipway.serving.{path.stem}" for path in PLUGINS if path.parent.name == folder]
        assert names
        words: list[str | Path] = [tool, "--type", kind, "--json", *names]
        told = json.loads(process.run(words, cwd=installed, env=alone(installed), timeout=120).stdout)
        for name in names:
            page = told[name]
            assert page["doc"]["short_description"] and page["examples"], name
            assert name in str(yaml.safe_load(page["examples"])), "an example names the plugin in full"
            entries = [*page["doc"].get("options", {}).items(), *page["return"].items()]
            while entries:
                key, entry = entries.pop()
                assert set(entry) <= ENTRY and entry["description"], f"{name}: {key}"
                for below in ("contains", "suboptions"):
                    entries += (entry.get(below) or {}).items()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """An inventory with one bare lab host and nothing else than how it is reached."""
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", ROOT)
    try:
        hosts = MakeHosts().run(ctx, Settings.model_validate({"hosts": {"workers": 0}})).value
        (one,) = hosts.hosts
        known = ctx.state.known_hosts
        words = f"-i {one.identity} -o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes"
        entry = {"ansible_host": one.address, "ansible_user": one.user, "ansible_ssh_common_args": words}
        path = tmp_path / "inventory.yml"
        path.write_text(yaml.safe_dump({"all": {"hosts": {one.name: entry}}}))
        yield path
    finally:
        take_down(ctx)
        assert traces(lab_name(ctx.state.root)) == []


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_five_lines_away_from_the_checkout_give_a_host_docker(
    ansible: str, installed: Path, host: Path, tmp_path: Path
) -> None:
    book = tmp_path / "five_lines.yml"
    book.write_text("- hosts: all\n  become: true\n  roles:\n    - role: slipway.serving.docker\n")
    env = alone(installed)

    def play(*words: str) -> str:
        return process.run([ansible, "-i", host, book, *words], cwd=tmp_path, env=env, timeout=500).stdout

    dry = play("--check")
    assert "would install docker.io" in dry
    first = play()
    assert "slipway.serving.docker : Run docker" in first and "failed=0" in first
    assert "TASK [Gathering Facts]" in first, "with Ansible's ordinary facts"
    assert "changed=0 " in play()
    tool = Path(ansible).with_name("ansible")
    asked: list[str | Path] = [tool, "-i", host, "all", "-m", "ansible.builtin.command", "-a", "docker info"]
    assert "Server Version" in process.run(asked, cwd=tmp_path, env=env, timeout=60).stdout
