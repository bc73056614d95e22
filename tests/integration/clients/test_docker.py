"""This machine as a build host, with real programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from slipway.clients.docker import Docker
from slipway.clients.shell import Here
from slipway.core.errors import ImageError


def test_this_machine_as_a_build_host(tmp_path: Path) -> None:
    """Here does with real programs what a connection does over SSH."""
    (tmp_path / "in file").write_bytes(b"some bytes")
    here = Here()
    done = here.stream_in(["wc", "-c"], tmp_path / "in file", timeout=20)
    assert done.stdout.strip() == "10"
    assert here.stream_in(["sh", "-c", "exit 7"], tmp_path / "in file", check=False).returncode == 7
    with here.tunnel("127.0.0.1", 8500) as where:
        assert where == ("127.0.0.1", 8500)


def test_docker_here_with_a_program_that_answers_as_docker_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\ncase "$1" in import) wc -c;; *) echo "no daemon" >&2; exit 1;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "root.tar").write_bytes(b"x" * 5)
    client = Docker(Here(), "cp")
    client.import_root(tmp_path / "root.tar", "base:1")
    assert not client.has("base:1")
    with pytest.raises(ImageError) as caught:
        client.daemon()
    assert caught.value.where == "cp" and caught.value.action and caught.value.exit_code == 5
    assert "no daemon" in caught.value.tail
