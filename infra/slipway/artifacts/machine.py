"""What this machine is, in the words artifacts are named by."""

from __future__ import annotations

import os
import platform

from slipway.core.errors import EnvironmentFault

# As the kernel and Python's wheels call an architecture -> as Go, Debian and image platforms do
_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """This machine's architecture as Go, Debian and image platforms name it. Raises EnvironmentFault."""
    machine = platform.machine()
    name = _NAMES.get(machine, machine)  # macOS says arm64
    if name not in _NAMES.values():
        raise EnvironmentFault(
            f"slipway has no artifacts for {machine}", action="use an amd64 or arm64 machine"
        )
    return name


def kernel_name(architecture: str) -> str:
    """The same architecture as the kernel and wheels name it. Raises KeyError for an unknown one."""
    return {name: kernel for kernel, name in _NAMES.items()}[architecture]


def memory_gb() -> float:
    """GB of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
