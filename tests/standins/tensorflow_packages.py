"""Stand-ins for TensorFlow Serving's packages: upstream's names and paths, with slipway's portable server inside.

What it runs on lies in RUNTIME on the host, so that a package is a kilobyte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.standins.apt_repository import Package

RUNTIME = "/opt/stand-in"
NAMES = ("tensorflow-model-server", "tensorflow-model-server-universal")
PROGRAM = "/usr/bin/tensorflow_model_server"


def packages(*versions: str) -> dict[str, list[Package]]:
    """Component to its packages, as upstream has them: one component for each name."""
    return {name: [_package(name, version) for version in versions] for name in NAMES}


def whole(version: str, modules: Mapping[str, bytes]) -> dict[str, list[Package]]:
    """The same with what it runs on inside, for a root that has nothing. modules: path below RUNTIME to content."""
    name = NAMES[0]
    alone = _package(name, version, python="/usr/bin/env python3")
    files = {f"{RUNTIME}/{path}": content for path, content in modules.items()}
    return {name: [replace(alone, files={**alone.files, **files})]}


def _package(name: str, version: str, python: str = "/usr/bin/python3") -> Package:
    program = (
        f"#!{python}\n# {name} {version}\nimport sys\n\nsys.path.insert(0, {RUNTIME!r})\n"
        "from slipway_server.__main__ import main\n\nsys.exit(main())\n"
    )
    return Package(name, version, {PROGRAM: program.encode()}, [PROGRAM])
