"""One host as it lives on this machine: booted, looked at, ended.

`folder` is the host's own: its console log and, where systemd does not keep services, the process id and
start time of its supervisor.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from slipway.core import process
from slipway.core.errors import HostError, SlipwayError
from slipway.core.retry import Pending, wait_for
from slipway.hosts import base
from slipway.hosts.nspawn import cgroups, controller, devices
from slipway.hosts.nspawn.labs import LabHost
from slipway.hosts.nspawn.launch import DEVICES, Launch, service_argv, supervised_argv

BOOT_SECONDS = 90.0
OFF_SECONDS = 90.0
_ANEW = "read its console log; `slipway down` and up again makes it anew"


def start(host: LabHost, folder: Path) -> str:
    """Boot a host and wait for its SSH. Raises HostError with the last lines of its console.

    Returns "", or why it is not kept from the devices it need not have.
    """
    unkept = ""
    console = folder / "console.log"
    launch = Launch(
        machine=host.machine,
        hostname=host.name,
        folder=folder,
        root=host.root,
        netns=host.netns,
        devices=tuple(device for device in DEVICES if Path(device).exists()),
    )
    with console.open("a") as log:
        log.write("== boot\n")
    try:
        if host.cgroups:
            cgroups.make(host.cgroups)
            unkept = devices.restrict(host.cgroups)
            (folder / "pid").write_text("")
            process.run(supervised_argv(launch, host.cgroups), where=host.name)
        else:
            process.run(["systemctl", "reset-failed", host.unit], check=False)
            process.run(service_argv(launch, host.unit), where=host.name)
        wait_for_ssh(host, folder)
    except SlipwayError as error:
        raise HostError(
            "it does not boot: " + error.what,
            where=host.name,
            tail=base.tail(console, 20) or error.tail,
            action=_ANEW,
            evidence=(console,),
        ) from error
    return unkept


def wait_for_ssh(host: LabHost, folder: Path) -> None:
    """Wait for the host's SSH banner, and no longer than the host lives."""

    def attempt() -> None:
        if answers(host.address):
            return
        last = base.tail(folder / "console.log", 20)
        if has_ended(host, folder):
            raise HostError("it ended before SSH answered", where=host.name, tail=last, action=_ANEW)
        raise Pending(last or "no console output")

    wait_for(
        f"an SSH answer from {host.address}",
        attempt,
        timeout=BOOT_SECONDS,
        interval=0.1,
        where=host.name,
        action=_ANEW,
    )


def wait_for_end(host: LabHost, folder: Path) -> None:
    """Wait for a host that was switched off. Raises Timeout with the last lines of its console."""

    def attempt() -> None:
        if is_running(host, folder):
            raise Pending(base.tail(folder / "console.log", 20) or "no console output")

    wait_for("its end", attempt, timeout=OFF_SECONDS, interval=0.1, where=host.name)


def answers(address: str) -> bool:
    """Whether an SSH server greets there."""
    try:
        with socket.create_connection((address, 22), timeout=1) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def is_running(host: LabHost, folder: Path) -> bool:
    """Whether the host's supervisor or unit runs and has something in it."""
    if host.cgroups:
        return _alive(folder / "pid") and len(cgroups.members(host.cgroups)) > 1
    if not controller.runs_systemd():
        return False
    return process.run(["systemctl", "is-active", "--quiet", host.unit], check=False).returncode == 0


def has_ended(host: LabHost, folder: Path) -> bool:
    """Whether the host was started and has ended."""
    if not host.cgroups:
        return not is_running(host, folder)
    pid_file = folder / "pid"
    return pid_file.is_file() and pid_file.read_text() != "" and not _alive(pid_file)


def end(host: LabHost, folder: Path) -> list[str]:
    """End a host's processes, cgroups and unit. Returns a line for each that was there."""
    removed: list[str] = []
    # a supervisor that only now starts finds no such file and ends by itself
    (folder / "pid").unlink(missing_ok=True)
    if host.unit and controller.runs_systemd():
        known = process.run(["systemctl", "show", "--property=ActiveState", host.unit], check=False).stdout
        if "inactive" not in known and "ActiveState=" in known:
            process.run(["systemctl", "kill", "--kill-whom=all", "--signal=KILL", host.unit], check=False)
            process.run(["systemctl", "stop", host.unit], check=False)
            process.run(["systemctl", "reset-failed", host.unit], check=False)
            removed.append(f"unit {host.unit}")
    if count := cgroups.end(host.cgroups):
        removed.append(f"host {host.name} ({count} processes)")
    for name in ("propagate", "unix-export", "inaccessible"):
        with suppress(OSError):  # nspawn's own run-time folders; it leaves them when it is killed
            Path(f"/run/systemd/nspawn/{name}/{host.machine}").rmdir()
    return removed


def _alive(pid_file: Path) -> bool:
    """Whether the process a supervisor wrote down (pid and start time) still runs."""
    try:
        pid, started = pid_file.read_text().split()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[19] == started and fields[0] not in "ZX"  # a zombie waits for its parent, not for us
    except (OSError, ValueError, IndexError):
        return False
