"""slipway's own part of the image: the two wheels, from a checkout and from an installed driver."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
from slipway.core import project
from slipway.core.errors import ArtifactError, EnvironmentFault
from slipway.image import own_wheels

CARRIED = {
    "slipway_client-9.9-py3-none-any.whl": {
        "slipway_client/__init__.py": b"client",
        "slipway_client/py.typed": b"",
        "slipway_client-9.9.dist-info/METADATA": b"Name: slipway-client",
        "slipway_client-9.9.dist-info/RECORD": b"",
        "slipway_client-9.9.dist-info/entry_points.txt": b"[console_scripts]\nslipway-prove = slipway_client.__main__:main\n",
    },
    "slipway_model_server-9.9-py3-none-any.whl": {
        "slipway_server/__init__.py": b"server",
        "slipway_model_server-9.9.dist-info/entry_points.txt": b"[console_scripts]\n"
        b"slipway-model-server = slipway_server.__main__:main\n",
    },
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver that was installed from its wheel: the folder with the wheels it carries."""
    for name, entries in CARRIED.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path, content in entries.items():
                archive.writestr(path, content)
    monkeypatch.setattr(project, "checkout", lambda: None)
    monkeypatch.setattr(project, "WHEELS", tmp_path)
    return tmp_path


def test_a_checkout_packs_what_stands_in_it_and_the_same_every_time() -> None:
    found = own_wheels.files("portable")
    root = Path(own_wheels.__file__).parents[2]
    for product in ("slipway_client", "slipway_server"):
        there = {
            f"site-packages/{path.relative_to(root).as_posix()}": path.read_bytes()
            for path in (root / product).rglob("*.py")
        }
        assert len(there) > 10
        assert {path: found.get(path) for path in there} == there
    assert not [path for path in found if path.startswith("site-packages/slipway/") or "pycache" in path]
    assert own_wheels.files("portable") == found


def test_a_checkout_gives_the_commands_and_names_that_an_installer_would() -> None:
    found = own_wheels.files("portable")
    assert {path for path in found if path.startswith("bin/")} == {
        "bin/slipway-model-server",
        "bin/slipway-prove",
    }
    assert b"from slipway_server.__main__ import main\n" in found["bin/slipway-model-server"]
    version = project.version()
    metadata = found[f"site-packages/slipway_model_server-{version}.dist-info/METADATA"].decode()
    assert f"Version: {version}\n" in metadata and "License-Expression: Apache-2.0\n" in metadata


def test_googles_image_takes_the_client_alone() -> None:
    found = own_wheels.files("tensorflow")
    assert "site-packages/slipway_client/check.py" in found and "bin/slipway-prove" in found
    assert not [path for path in found if "server" in path]


def test_an_installed_driver_unpacks_the_wheels_it_carries(installed: Path) -> None:
    found = own_wheels.files("portable")
    assert set(found) == {
        "bin/slipway-model-server",
        "bin/slipway-prove",
        "site-packages/slipway_client/__init__.py",
        "site-packages/slipway_client-9.9.dist-info/METADATA",
        "site-packages/slipway_server/__init__.py",
    }
    assert found["site-packages/slipway_client/__init__.py"] == b"client"


def test_a_driver_without_its_wheels_says_so(installed: Path) -> None:
    (installed / "slipway_model_server-9.9-py3-none-any.whl").unlink()
    with pytest.raises(ArtifactError, match="lacks the wheel of slipway_server") as caught:
        own_wheels.files("portable")
    assert "install slipway-serving again" in caught.value.action


def test_a_checkout_without_hatchling_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hatchling.builders.wheel", None)
    with pytest.raises(EnvironmentFault, match="hatchling is not installed") as caught:
        own_wheels.files("portable")
    assert "pip install hatchling" in caught.value.action
