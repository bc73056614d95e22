"""Kernel modules that hosts need: loaded on this machine for them, and listed in them as built in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from slipway.core import process

MODULES: tuple[str, ...] = (
    "overlay",
    "br_netfilter",
    "nf_conntrack",
    "ip_tables",
    "iptable_nat",
    "xt_conntrack",
    "xt_physdev",
    "veth",
    "vxlan",
    "tun",
    "fuse",
    "loop",
)

BRIDGES = tuple(f"net/bridge/bridge-nf-call-{program}" for program in ("iptables", "ip6tables", "arptables"))


def there(
    release: str, modules: Path = Path("/lib/modules"), proc: Path = Path("/proc/modules")
) -> list[str]:
    """Those of MODULES that this machine's kernel has built in or loaded.

    A kernel without a module folder has everything built in.
    """
    listed = modules / release / "modules.builtin"
    if not listed.is_file():
        return list(MODULES)
    have = {Path(line).name.partition(".")[0].replace("-", "_") for line in listed.read_text().split()}
    if proc.is_file():
        have |= {line.split()[0] for line in proc.read_text().splitlines() if line}
    return [name for name in MODULES if name in have]


def builtin_listing(names: Iterable[str]) -> str:
    """A host's modules.builtin: modprobe of these does nothing there and succeeds."""
    return "".join(f"kernel/lab/{name}.ko\n" for name in names)


def to_load(modules: Path = Path("/lib/modules"), proc: Path = Path("/proc/modules")) -> tuple[str, ...]:
    """Those of MODULES that this machine could load and has not."""
    release = os.uname().release
    try:
        files = (modules / release / "modules.dep").read_text().splitlines()
    except OSError:
        return ()  # nothing to load from: all there is is built in
    loadable = {Path(line.partition(":")[0]).name.partition(".")[0].replace("-", "_") for line in files}
    have = there(release, modules, proc)
    return tuple(name for name in MODULES if name in loadable and name not in have)


def load(names: Iterable[str], proc: Path = Path("/proc/sys")) -> None:
    """Load modules. One that cannot be loaded is missed later by what needs it, inside the host.

    br_netfilter, just loaded, would send the frames of every bridge of this machine through its firewall:
    virtual machines of the owner's lose their network where FORWARD drops. Hosts have a switch of their own.
    """
    wanted = tuple(names)
    _modprobe("--all", wanted)
    for file in BRIDGES if "br_netfilter" in wanted else ():
        with suppress(OSError):
            (proc / file).write_text("0\n")


def unload(names: Iterable[str]) -> None:
    """Unload modules that nothing uses."""
    _modprobe("--remove --all", names)


def _modprobe(how: str, names: Iterable[str]) -> None:
    wanted = list(names)
    if wanted:
        process.run(["modprobe", *how.split(), "--quiet", *wanted], check=False)
