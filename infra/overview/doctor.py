"""Checks of this machine before anything is changed: what is there, what is missing, how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.backends.nspawn import HOST_DISK_BYTES
from infra.core.context import Context
from infra.core.schema import Settings

CACHE_BYTES = (
    3_000_000_000  # Kubernetes, host roots, wheels: 2.0 GB after a whole run, and room to make one anew
)
STATE_BYTES = 1_000_000_000  # models, image contexts and reports of runs, beside what hosts take


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
        lambda: _space("disk for state", ctx.state.root, _wanted(ctx, settings, own_hosts)),
        lambda: _space("disk for cache", ctx.cache, _wanted(ctx, settings, own_hosts)),
        lambda: _program(
            "ssh", needed=settings.cluster.kubeconfig is None, action="apt-get install openssh-client"
        ),
        lambda: _program("systemd-nspawn", needed=False, action="`slipway up` installs systemd-container"),
        lambda: _program(
            "mmdebstrap",
            needed=False,
            action="`slipway up` installs it"
            if own_hosts
            else "apt-get install mmdebstrap: the modules source makes images with it",
        ),
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


def _wanted(ctx: Context, settings: Settings, own_hosts: bool) -> dict[Path, int]:
    """Folder -> bytes that a first run puts there, at the most."""
    hosts = (settings.hosts.workers + 1) * HOST_DISK_BYTES if own_hosts else 0
    return {ctx.state.root: STATE_BYTES + hosts, ctx.cache: CACHE_BYTES}


def _space(name: str, folder: Path, wanted: Mapping[Path, int]) -> Check:
    """Whether the folder's disk has room for all that goes there, the other folder's part too if it is the same."""
    there = _existing(folder)
    needed = sum(
        size for other, size in wanted.items() if _existing(other).stat().st_dev == there.stat().st_dev
    )
    free = shutil.disk_usage(there).free
    return Check(
        name,
        free >= needed,
        True,
        f"{free / 1e9:.0f} GB free at {there}",
        f"{needed / 1e9:.0f} GB are needed: free some, or move it (the cache by SLIPWAY_CACHE)",
    )


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _program(name: str, *, needed: bool, action: str) -> Check:
    found = shutil.which(name)
    return Check(name, found is not None, needed, found or "not on PATH", action)


def _cgroups() -> Check:
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return Check(
        "cgroups", Path("/sys/fs/cgroup").is_dir(), False, "v2" if unified else "v1", "mount /sys/fs/cgroup"
    )
