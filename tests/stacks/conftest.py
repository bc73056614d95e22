"""Programs and an API server for the tests of the stack."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway.artifacts import from_modules
from slipway.core.context import Context
from slipway.core.state import State

from tests.stacks import control_plane
from tests.stacks.desk import Desk


@pytest.fixture(scope="module")
def an_event_loop() -> Iterator[None]:
    """Pulumi's runtime asks for the thread's loop, and asyncio.run in an earlier test leaves none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control_plane.ControlPlane]:
    """One API server for all tests that need a real one; each test takes a namespace of its own."""
    folder = tmp_path_factory.mktemp("plane")
    ctx = Context(state=State(folder / ".slipway"), run=folder / "run", project=folder)
    programs = from_modules.programs(ctx, "kubernetes", "etcd")  # the cache entries the chain uses
    with control_plane.running(folder, programs) as plane:
        yield plane


@pytest.fixture
def desk(plane: control_plane.ControlPlane, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    words = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
    name = f"{words[:32].strip('-')}-{zlib.crc32(words.encode()):08x}"  # cases of one test differ at its end
    yield Desk(plane, tmp_path, name)
    plane.kubectl.run(["delete", "namespace", name, "--ignore-not-found", "--wait=false"])
