"""Programs and an API server for the tests of the stack."""

from __future__ import annotations

from collections.abc import Iterator

import control_plane
import pytest

from infra.artifacts import from_modules
from infra.core.context import Context
from infra.core.state import State


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control_plane.ControlPlane]:
    """One API server for all tests that need a real one; each test takes a namespace of its own."""
    folder = tmp_path_factory.mktemp("plane")
    ctx = Context(state=State(folder / ".slipway"), run=folder / "run", project=folder)
    programs = from_modules.programs(ctx, "kubernetes", "etcd")  # the cache entries the chain uses
    with control_plane.running(folder, programs) as plane:
        yield plane
