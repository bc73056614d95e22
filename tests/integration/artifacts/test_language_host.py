"""The language host's own tests, which Go runs: a stand-in for the engine, real interpreters."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from slipway.artifacts import from_modules, golang
from slipway.core import process
from slipway.core.context import Context
from slipway.core.state import State

pytestmark = pytest.mark.engine


@pytest.mark.timeout(1800)  # the first on a machine compiles what Pulumi's SDK stands on
def test_the_language_host_does_what_its_own_tests_say(tmp_path: Path) -> None:
    ctx = Context(state=State(tmp_path / ".slipway"), run=tmp_path / "run", project=tmp_path)
    tool = from_modules._CLI
    go = golang.ensure(ctx)
    said = process.run(
        # the flags of the build, so that nothing it compiled is compiled again; vet would do so
        [go.command, "test", "-v", "-count=1", "-vet=off", "-trimpath", "-tags", tool.tags, "."],
        cwd=tool.folder,
        env=go.environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"),
        timeout=1500,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    written = {
        name
        for file in tool.folder.glob("*_test.go")
        for name in re.findall(r"^func (Test\w+)\(t ", file.read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"^--- PASS: (\w+)", said.stdout, re.MULTILINE)) == written
    assert len(written) > 20
