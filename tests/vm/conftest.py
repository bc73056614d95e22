"""What every test with a virtual machine boots from: a kernel and an image, both from the cache or made once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from slipway.artifacts import debian
from slipway.core.context import Context
from slipway.core.events import Event, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.hosts.nspawn import inherit

from tests.vm import uml_kernel, vm_image, vm_lab, vm_programs
from tests.vm.uml_kernel import Kernel
from tests.vm.vm_lab import ROOT


def say(event: Event) -> None:
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)


@pytest.fixture(scope="session")
def making(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("vm-made")
    vm_programs.ensure({**vm_image.PROGRAMS, **vm_lab.PROGRAMS}, say)
    return Context(State(folder / ".slipway"), folder / "run", ROOT, emit=say)


@pytest.fixture(scope="session")
def kernel(making: Context) -> Kernel:
    return uml_kernel.packaged(making)


@pytest.fixture(scope="session")
def built_kernel(making: Context) -> Kernel:
    """With what Kubernetes needs; made in a quarter of an hour where the cache has none."""
    return uml_kernel.built(making)


@pytest.fixture(scope="session")
def image(making: Context, kernel: Kernel) -> Path:
    return vm_image.ensure(making, inherit.site(Settings().site, debian.SUITE), kernel)


@pytest.fixture(scope="session")
def node_image(making: Context, built_kernel: Kernel) -> Path:
    return vm_image.ensure(making, inherit.site(Settings().site, debian.SUITE), built_kernel)
