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

from tests.vm import uml_kernel, vm_image
from tests.vm.uml_kernel import Kernel
from tests.vm.vm_lab import ROOT, install_programs


def say(event: Event) -> None:
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)


@pytest.fixture(scope="session")
def making(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("vm-made")
    install_programs(say)
    return Context(State(folder / ".slipway"), folder / "run", ROOT, emit=say)


@pytest.fixture(scope="session")
def kernel(making: Context) -> Kernel:
    return uml_kernel.packaged(making)


@pytest.fixture(scope="session")
def image(making: Context, kernel: Kernel) -> Path:
    return vm_image.ensure(making, inherit.site(Settings().site, debian.SUITE), kernel)
