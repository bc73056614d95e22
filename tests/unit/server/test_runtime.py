"""Where TensorFlow's library is looked for; what it does is in the tests of the server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from slipway_client.errors import EnvironmentFault
from slipway_server import runtime


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder this Python looks for packages in."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    return tmp_path


def test_a_missing_library_is_told_with_the_wheel_to_install(packages: Path) -> None:
    for folder in (
        "nothing at all",
        "tensorflow",
    ):  # the second time the package is there without its library
        (packages / folder).mkdir()
        with pytest.raises(
            EnvironmentFault, match=r"library \(libtensorflow_cc\.so\.2\) is not installed"
        ) as error:
            runtime.load()
        assert "tensorflow-cpu" in error.value.action
        assert error.value.exit_code == 3


def test_a_library_that_cannot_be_loaded_is_told_with_its_path(packages: Path) -> None:
    (packages / "tensorflow").mkdir()
    file = packages / "tensorflow" / "libtensorflow_cc.so.2"
    file.write_bytes(b"not a library")
    with pytest.raises(EnvironmentFault, match="cannot be loaded") as error:
        runtime.load()
    assert error.value.where == str(file)
    assert "invalid ELF header" in error.value.tail or "file too short" in error.value.tail
