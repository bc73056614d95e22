"""Four products, one version, one licence, and locks that fetch nothing without a hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = {
    "slipway-serving": ROOT,
    "slipway-client": ROOT / "infra" / "slipway_client",
    "slipway-model-server": ROOT / "infra" / "slipway_server",
    "slipway-stacks": ROOT / "stacks",
}
LOCKS = [ROOT / "requirements.lock", ROOT / "infra" / "slipway" / "image" / "requirements.lock"]


def metadata(name: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((PROJECTS[name] / "pyproject.toml").read_text())["project"]
    assert found["name"] == name
    return found


def requirements(name: str) -> list[str]:
    own = metadata(name)
    return [
        *own["dependencies"],
        *(one for many in own.get("optional-dependencies", {}).values() for one in many),
    ]


@pytest.mark.parametrize("name", PROJECTS)
def test_one_version_and_one_licence(name: str) -> None:
    version = metadata("slipway-serving")["version"]
    assert metadata(name)["version"] == version
    assert metadata(name)["license"] == "Apache-2.0"
    assert (PROJECTS[name] / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for wanted in requirements(name):
        other, _, pin = wanted.partition("==")
        assert other not in PROJECTS or pin == version, wanted


def test_each_product_asks_for_those_it_imports() -> None:
    names = {
        name: {wanted.partition("==")[0] for wanted in requirements(name)} & set(PROJECTS)
        for name in PROJECTS
    }
    assert names == {
        "slipway-serving": {"slipway-client", "slipway-model-server", "slipway-stacks"},
        "slipway-client": set(),
        "slipway-model-server": {"slipway-client"},
        "slipway-stacks": set(),
    }
    base = {wanted.partition("==")[0] for wanted in metadata("slipway-serving")["dependencies"]}
    assert base & set(PROJECTS) == {"slipway-client", "slipway-stacks"}


def test_the_base_of_the_driver_and_the_client_are_without_tensorflow() -> None:
    for name in ("slipway-serving", "slipway-client", "slipway-stacks"):
        text = " ".join(metadata(name)["dependencies"])
        assert not re.search(r"tensorflow|mlxtend|keras|model-server", text)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_has_hashes_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)
    assert len(pinned) > 5
    assert not re.search(r"://|--index|--find-links|^-e |^\./", text, re.MULTILINE)
    assert not re.search(r"^slipway", text, re.MULTILINE), "what is not published has no hash"
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        assert "--hash=sha256:" in block, block.splitlines()[0]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_has_one_tensorflow_for_each_kind_of_machine(lock: Path) -> None:
    found = re.findall(r"^(tensorflow|tensorflow-cpu)==\S+ ; (.*?) \\$", lock.read_text(), re.MULTILINE)
    assert dict(found) == {
        "tensorflow": "platform_machine != 'x86_64'",
        "tensorflow-cpu": "platform_machine == 'x86_64'",
    }


def test_the_build_backend_is_in_the_lock() -> None:
    for folder in PROJECTS.values():
        system = tomllib.loads((folder / "pyproject.toml").read_text())["build-system"]
        (wanted,) = system["requires"]
        assert wanted.startswith("hatchling>=")
    assert re.search(r"^hatchling==", LOCKS[0].read_text(), re.MULTILINE)
    assert "--no-build-isolation" in (ROOT / "infra" / "setup.sh").read_text()


def test_a_package_that_says_it_is_typed_is() -> None:
    for package in ("infra/slipway", "infra/slipway_client", "infra/slipway_server", "stacks/slipway_stacks"):
        assert (ROOT / package / "py.typed").is_file()
