"""How one host is started: systemd-nspawn's words, and who keeps it running. Lists of words, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway.hosts.nspawn import devices

HERE = Path(__file__).parent
INIT = "/usr/lib/slipway-init"
# What container engines keep must not lie on an overlay: their own overlays cannot stack on it.
VOLUMES = ("docker", "containerd", "kubelet", "lxd")
DEVICES = ("/dev/kmsg", "/dev/fuse", "/dev/net/tun", "/dev/loop-control")
ENVIRONMENT = {
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",  # sysctl and cgroups belong to the host inside
    "SYSTEMD_SECCOMP": "0",  # engines inside bring their own filters
}


@dataclass(frozen=True)
class Launch:
    """One host's start. folder: holds upper/ and volumes/. devices: those this machine has."""

    machine: str
    hostname: str
    folder: Path
    root: Path
    netns: str
    devices: tuple[str, ...] = DEVICES


def nspawn_argv(launch: Launch) -> list[str]:
    """systemd-nspawn for one host, in the host's network namespace.

    The same on cgroup v1 and v2: nspawn keeps the cgroup it is started in and looks itself which
    kind this machine has; the host's first process (init.sh) makes v1's controllers writable.
    """
    return [
        "nsenter",
        f"--net=/run/netns/{launch.netns}",
        "systemd-nspawn",
        "--quiet",
        f"--directory={launch.folder / 'root'}",
        f"--machine={launch.machine}",
        f"--hostname={launch.hostname}",
        "--register=no",
        "--keep-unit",
        "--kill-signal=SIGRTMIN+3",
        "--capability=all",
        "--private-users=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        *(f"--bind={device}" for device in launch.devices),
        *(f"--bind={_escaped(launch.folder / 'volumes' / name)}:/var/lib/{name}" for name in VOLUMES),
        INIT,
    ]


def entered_argv(launch: Launch) -> list[str]:
    """nspawn_argv under the host's overlay, mounted in a namespace of its own.

    Propagation stays one-way in: an unmounted network namespace of another lab must go here too.
    """
    return [
        "unshare",
        "--mount",
        "--propagation=slave",
        "sh",
        str(HERE / "enter.sh"),
        str(launch.folder),
        str(launch.root),
        *nspawn_argv(launch),
    ]


def supervised_argv(launch: Launch, cgroups: Iterable[Path]) -> list[str]:
    """The whole start where systemd does not run: own session, own cgroups, a loop that reboots."""
    return [
        "setsid",
        "--fork",
        "env",
        *(f"{name}={value}" for name, value in ENVIRONMENT.items()),
        "sh",
        str(HERE / "supervise.sh"),
        str(launch.folder / "console.log"),
        str(launch.folder / "pid"),
        *(str(path) for path in cgroups),
        "--",
        *entered_argv(launch),
    ]


def service_argv(launch: Launch, unit: str) -> list[str]:
    """The whole start where systemd runs: a transient service with its cgroup delegated to the host.

    A service, not a scope, so that systemd itself starts the host again when it reboots (133).
    """
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={unit}",
        "--service-type=exec",
        "--property=Delegate=yes",
        "--property=KillMode=mixed",
        "--property=TasksMax=infinity",
        *(f"--property={line}" for line in devices.unit_properties()),
        "--property=RestartForceExitStatus=133",
        "--property=SuccessExitStatus=133",
        "--property=TimeoutStopSec=30",
        f"--property=StandardOutput=append:{launch.folder / 'console.log'}",
        f"--property=StandardError=append:{launch.folder / 'console.log'}",
        *(f"--setenv={name}={value}" for name, value in ENVIRONMENT.items()),
        *entered_argv(launch),
    ]


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:")
