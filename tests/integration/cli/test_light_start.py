"""`slipway --help` and completion are for people who wait: nothing heavy is imported for them."""

from __future__ import annotations

import sys

from slipway.core import process

HEAVY = {"ansible_runner", "cryptography", "grpc", "numpy", "paramiko", "pulumi", "tensorflow"}


def test_the_command_line_imports_nothing_heavy() -> None:
    script = (
        "import sys; import slipway.cli.app; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = set(process.run([sys.executable, "-c", script], timeout=60).stdout.split())
    assert {"slipway", "typer"} <= loaded
    assert not loaded & HEAVY
