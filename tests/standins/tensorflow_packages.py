"""Stand-ins for TensorFlow Serving's packages: upstream's names and paths, with slipway's portable server inside.

What it runs on lies in RUNTIME on the host, so that a package is a kilobyte.
"""

from __future__ import annotations

from tests.standins.apt_repository import Package

RUNTIME = "/opt/stand-in"
NAMES = ("tensorflow-model-server", "tensorflow-model-server-universal")
PROGRAM = "/usr/bin/tensorflow_model_server"


def packages(*versions: str) -> dict[str, list[Package]]:
    """Component to its packages, as upstream has them: one component for each name."""
    return {name: [_package(name, version) for version in versions] for name in NAMES}


def _package(name: str, version: str) -> Package:
    program = (
        f"#!/usr/bin/python3\n# {name} {version}\nimport sys\n\nsys.path.insert(0, {RUNTIME!r})\n"
        "from slipway_server.__main__ import main\n\nsys.exit(main())\n"
    )
    return Package(name, version, {PROGRAM: program.encode()}, [PROGRAM])
