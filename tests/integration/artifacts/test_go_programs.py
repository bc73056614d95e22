"""The Go programs that nodes run keep their own promises, by their own tests."""

from __future__ import annotations

import pytest
from slipway.artifacts import golang
from slipway.artifacts.from_modules import HERE
from slipway.core import process

from tests.unit.artifacts.conftest import Lab


@pytest.mark.parametrize("name", ["flanneld", "netpol"])
def test_a_program_of_the_nodes_passes_its_tests(name: str, lab: Lab) -> None:
    go = golang.ensure(lab.ctx)
    # -trimpath as in the build, so that what it left in Go's cache is used
    done = process.run(
        [go.command, "test", "-trimpath", "-vet=off", "-v", "./..."],
        cwd=HERE / name,
        env=go.environment(),
        timeout=1800,
    )
    assert done.stdout.count("--- PASS: Test") >= 4
    assert "[no test files]" not in done.stdout and "--- SKIP" not in done.stdout
