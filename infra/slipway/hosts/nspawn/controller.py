"""The controller, the machine slipway runs on: what it must be and have before hosts can run on it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.events import Emit, Note
from slipway.hosts.nspawn.inherit import Site

# Program -> the package of Debian and Ubuntu that has it.
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "depmod": "kmod",
}


def need_linux() -> None:
    """Raise EnvironmentFault on another system."""
    if sys.platform != "linux":
        raise EnvironmentFault(
            f"lab hosts need Linux, this is {sys.platform}",
            action="use hosts.backend: ssh with machines that exist, or run slipway in a Linux machine",
        )


def need_root() -> None:
    """Raise EnvironmentFault for any other user."""
    if os.geteuid() != 0:
        raise EnvironmentFault(
            "making hosts on this machine needs root",
            action="run it as root (sudo), or use hosts.backend: ssh with machines that exist",
        )


def need_disk(folder: Path, wanted: int, what: str) -> None:
    """Raise EnvironmentFault if fewer than `wanted` bytes are free for a folder that may not exist yet."""
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise EnvironmentFault(
            f"too little disk for {what}: {wanted / 1e9:.1f} GB needed at {folder}, {free / 1e9:.1f} GB free",
            action="free some space, or move the state folder or the cache (SLIPWAY_CACHE) to a larger disk",
        )


def runs_systemd() -> bool:
    """Whether systemd keeps this machine's services; hosts are then services of it."""
    return Path("/run/systemd/system").is_dir()


def missing(site: Site) -> tuple[str, ...]:
    """The packages hosts of this site are made with and that are not here."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not Path(site.keyring_file).is_file():
        packages.append(site.keyring_package)
    return tuple(dict.fromkeys(packages))


def install(packages: Sequence[str], emit: Emit) -> None:
    """Install packages of this machine's distribution by name. Raises EnvironmentFault with apt's words."""
    names = " ".join(packages)
    emit(Note(f"installing {names}"))
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        process.run(["apt-get", "update", "--quiet"], env=quiet, timeout=600)
        process.run(
            ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages],
            env=quiet,
            timeout=1800,
        )
    except CommandError as error:
        raise EnvironmentFault(
            f"this machine lacks {names}, and apt cannot install them",
            tail=error.output,
            action="install them by hand, or use hosts.backend: ssh with machines that exist",
        ) from error
