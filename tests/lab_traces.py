"""What a lab leaves on this machine; nothing after `down`."""

from __future__ import annotations

from pathlib import Path

from slipway.core import process


def traces(name: str) -> list[str]:
    """Everything on this machine that carries a lab's name."""
    short = name.replace("-", "", 1)
    found = [
        f"interface {path.name}"
        for path in Path("/sys/class/net").iterdir()
        if path.name.startswith((name, short))
    ]
    found += [f"netns {path}" for path in Path("/run/netns").glob(f"{name}*")]
    for program in (["iptables-save"], ["cat", "/proc/mounts"]):
        found += [line for line in process.run(program).stdout.splitlines() if name in line]
    found += process.run(["find", "/sys/fs/cgroup", "-name", f"{name}*"], check=False).stdout.split()
    found += [str(path) for path in Path("/run/systemd/nspawn").glob(f"*/*{name}*")]
    found += [str(path) for path in Path("/var/lib/slipway").glob(f"**/*{name}*")]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"--machine={name}" in words:
            found.append(f"process {command.parent.name}: {words[:200]}")
    return found
