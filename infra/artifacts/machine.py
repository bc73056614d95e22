"""What this machine is, in the words artifacts are named by."""

from __future__ import annotations

import platform

from infra.core.errors import EnvironmentFault


def architecture() -> str:
    """This machine's architecture as Go, Debian and image platforms name it. Raises EnvironmentFault."""
    names = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    machine = platform.machine()
    if machine not in names:
        raise EnvironmentFault(
            f"slipway has no artifacts for {machine}", action="use an amd64 or arm64 machine"
        )
    return names[machine]
