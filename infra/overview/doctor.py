"""Checks of this machine before anything is changed: what is there, what is missing, how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.core.context import Context
from infra.core.schema import Settings

MIN_FREE_GB = 12  # roots, image layers and artifacts of a three-host lab, measured in docs/measurements.md


@dataclass(frozen=True)
class Check:
    """One finding. needed: without it the chain, as it is set, cannot run."""

    name: str
    ok: bool
    needed: bool
    found: str
    action: str = ""

    def line(self) -> str:
        mark = "ok     " if self.ok else "missing" if self.needed else "absent "
        return f"{mark}  {self.name:<16} {self.found}" + (
            f"; {self.action}" if self.action and not self.ok else ""
        )


def examine(ctx: Context, settings: Settings) -> list[Check]:
    """Every check that matters under these settings; nothing is changed or downloaded."""
    own_hosts = settings.hosts.backend == "nspawn" and settings.cluster.kubeconfig is None
    checks: list[Callable[[], Check]] = [
        _python,
        lambda: _system(own_hosts),
        lambda: _root(own_hosts),
        lambda: _space("disk for state", ctx.state.root),
        lambda: _space("disk for cache", ctx.cache),
        lambda: _program(
            "ssh", needed=settings.cluster.kubeconfig is None, action="apt-get install openssh-client"
        ),
        lambda: _program("systemd-nspawn", needed=False, action="`slipway up` installs systemd-container"),
        lambda: _program("mmdebstrap", needed=False, action="`slipway up` installs it"),
        lambda: _program(
            "go", needed=False, action="the modules source fetches a toolchain when it is needed"
        ),
        lambda: _program(
            "pulumi",
            needed=settings.deploy.by == "engine",
            action="https://www.pulumi.com/docs/iac/download-install/, or deploy.by: render",
        ),
        _cgroups,
    ]
    return [check() for check in checks]


def _python() -> Check:
    return Check(
        "python", sys.version_info >= (3, 11), True, platform.python_version(), "Python 3.11 or newer"
    )


def _system(needed: bool) -> Check:
    return Check(
        "system",
        platform.system() == "Linux",
        needed,
        f"{platform.system()} {platform.release()} {platform.machine()}",
        "nspawn hosts need Linux; use hosts.backend: ssh",
    )


def _root(needed: bool) -> Check:
    root = os.geteuid() == 0
    return Check(
        "root",
        root,
        needed,
        "yes" if root else "no",
        "run as root (nspawn hosts need it), or use hosts.backend: ssh",
    )


def _space(name: str, path: Path) -> Check:
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / 1e9
    return Check(
        name, free >= MIN_FREE_GB, True, f"{free:.0f} GB free at {path}", f"{MIN_FREE_GB} GB are needed"
    )


def _program(name: str, *, needed: bool, action: str) -> Check:
    found = shutil.which(name)
    return Check(name, found is not None, needed, found or "not on PATH", action)


def _cgroups() -> Check:
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return Check(
        "cgroups", Path("/sys/fs/cgroup").is_dir(), False, "v2" if unified else "v1", "mount /sys/fs/cgroup"
    )
