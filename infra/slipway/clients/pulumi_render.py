"""The Pulumi program rendered to manifests without an engine.

`python -m slipway.clients.pulumi_render` does it: configuration in PULUMI_CONFIG as the engine hands it to a
program, one JSON document on stdout. It is a process of its own because Pulumi keeps its state in globals
and event loops, and a driver that renders twice must get the same twice.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway_stacks import outputs

from slipway.clients.kubectl import Manifest
from slipway.clients.pulumi_stack import PROGRAM
from slipway.core import process
from slipway.core.errors import DeployError, UsageError

# What is applied first comes first; also the order people expect to read.
_ORDER = (
    "Namespace",
    "ServiceAccount",
    "NetworkPolicy",
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "HTTPRoute",
    "GRPCRoute",
    "PodMonitor",
)


@dataclass(frozen=True)
class Rendered:
    """The program's resources as manifests, and what it warned of."""

    manifests: tuple[Manifest, ...]
    warnings: tuple[str, ...]


def render(config: Mapping[str, str]) -> Rendered:
    """The stack program's resources for these values, by key without `slipway:`; takes about 2 s.

    Raises UsageError with every wrong value at once, DeployError when a rule of
    stacks/slipway_stacks/rules.py is broken. Asks no cluster and no network.
    """
    done = process.run(
        [sys.executable, "-m", __name__],
        env={
            "PULUMI_CONFIG": json.dumps({f"{outputs.PROJECT}:{key}": value for key, value in config.items()})
        },
        cwd=PROGRAM.parent,
        timeout=120,
        where="rendering stacks/",
    )
    answer = json.loads(done.stdout)
    if answer["problem"]:
        raise UsageError(
            "the stack's inputs are wrong",
            where="stacks/slipway_stacks/inputs.py",
            tail=answer["problem"],
            action="correct deploy.* in slipway.yaml, or the stack's file in stacks/envs",
        )
    if answer["violations"]:
        raise DeployError(
            "the stack breaks its own rules",
            where="stacks/slipway_stacks/rules.py",
            tail="\n".join(answer["violations"]),
            action="these hold for every deployment; correct the program in stacks/",
        )
    return Rendered(tuple(answer["manifests"]), tuple(answer["warnings"]))


def run_program(config: Mapping[str, str]) -> Rendered:
    """Run stacks/__main__.py in this process against Pulumi's mocks; config by full key.

    Raises pulumi.RunError when the program refuses its inputs.
    """
    import logging
    import runpy

    import pulumi

    seen: list[Manifest] = []
    warnings: list[str] = []

    class Recorder(pulumi.runtime.Mocks):
        def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
            raise NotImplementedError(f"the program asks the provider for {args.token}: it must not")

        def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
            if args.typ.startswith("kubernetes:"):
                seen.append(_whole(args.inputs))
            return f"{args.name}-id", args.inputs

    class Warnings(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record.getMessage())

    logger = logging.Logger("slipway_stacks", logging.WARNING)
    logger.addHandler(Warnings())
    before = os.environ.get("PULUMI_CONFIG")
    os.environ["PULUMI_CONFIG"] = json.dumps(dict(config))
    try:
        pulumi.runtime.set_mocks(
            Recorder(), project=outputs.PROJECT, stack="render", preview=False, logger=logger
        )
        # waits for every output of the program
        program = pulumi.runtime.test(  # type: ignore[no-untyped-call]  # pulumi ships it without annotations
            lambda: runpy.run_path(str(PROGRAM), run_name="__main__") and None
        )
        program()
    finally:
        if before is None:
            del os.environ["PULUMI_CONFIG"]
        else:
            os.environ["PULUMI_CONFIG"] = before
    seen.sort(key=lambda item: (_ORDER.index(item["kind"]), str(item["metadata"]["name"])))
    return Rendered(tuple(_ordered(item) for item in seen), tuple(warnings))


def _whole(value: Any) -> Any:
    """Mocks hand every number back as a float; the API refuses 3.0 as a count."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def _ordered(manifest: Manifest) -> Manifest:
    """Keys in the order of the API's own documentation, then by name: the same text every time."""
    first = ("apiVersion", "kind", "metadata", "name", "namespace", "labels")

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: (first.index(key) if key in first else len(first), key))
            return {key: walk(value[key]) for key in keys}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return dict(walk(manifest))


def main() -> int:
    """The rendering process: PULUMI_CONFIG in, one JSON document out."""
    import pulumi
    from slipway_stacks import rules

    rendered, problem = Rendered((), ()), ""
    try:
        rendered = run_program(json.loads(os.environ["PULUMI_CONFIG"]))
    except pulumi.RunError as error:
        problem = str(error)
    json.dump(
        {
            "manifests": rendered.manifests,
            "warnings": rendered.warnings,
            "problem": problem,
            "violations": rules.violations(rendered.manifests),
        },
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
