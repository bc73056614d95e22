"""One table of architectures, for all the names they have."""

from __future__ import annotations

import pytest
from slipway.artifacts import machine
from slipway.core.errors import EnvironmentFault


@pytest.mark.parametrize(
    ("kernel", "name"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("amd64", "amd64")]
)
def test_this_machines_name(monkeypatch: pytest.MonkeyPatch, kernel: str, name: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: kernel)
    assert machine.architecture() == name


@pytest.mark.parametrize(("name", "kernel"), [("amd64", "x86_64"), ("arm64", "aarch64")])
def test_the_kernels_name(name: str, kernel: str) -> None:
    assert machine.kernel_name(name) == kernel


def test_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(EnvironmentFault, match="riscv64"):
        machine.architecture()
