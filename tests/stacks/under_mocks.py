"""`python under_mocks.py PROGRAM`: a Pulumi program run without an engine, what it makes as JSON on stdout.

A script of its own that needs Pulumi alone, so that it also runs where nothing of this checkout is installed.
Configuration comes in PULUMI_CONFIG, as from the engine.
"""

from __future__ import annotations

import json
import runpy
import sys
from typing import Any

import pulumi


class Recorder(pulumi.runtime.Mocks):
    """Keeps what is registered; every resource is made as it was asked for."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        raise AssertionError(args.token)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.made.append({"type": args.typ, "name": args.name, "inputs": args.inputs})
        return f"{args.name}-id", args.inputs


def run(program: str) -> list[dict[str, Any]]:
    """What the program makes, in that order: type, logical name and inputs of each resource."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="models", stack="mocks", preview=False)
    waiting = pulumi.runtime.test(lambda: runpy.run_path(program, run_name="__main__") and None)
    waiting()
    return recorder.made


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
