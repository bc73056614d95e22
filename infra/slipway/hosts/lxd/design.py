"""The hosts that settings ask for in LXD, on paper: names, addresses on its bridge, how each is confined."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.core.errors import HostError
from slipway.core.schema import HostsSettings
from slipway.hosts.naming import groups, names
from slipway.hosts.nspawn.launch import INIT

# LXD's words for what is ours are in its configuration, under keys that it leaves to users
MADE, STATE, OWNER, SYSCTLS = (
    "user.slipway.made",
    "user.slipway.state",
    "user.slipway.owner",
    "user.slipway.sysctls",
)


@dataclass(frozen=True)
class Bridge:
    """LXD's managed network. address: its own on it, with the prefix; taken: other addresses in use there."""

    name: str
    address: ipaddress.IPv4Interface
    taken: frozenset[str] = frozenset()

    @property
    def free(self) -> Iterable[str]:
        """Addresses for hosts, from the end: LXD's own DHCP gives others wherever it likes."""
        used = {*self.taken, str(self.address.ip)}
        addresses = list(self.address.network.hosts())
        return (str(one) for one in reversed(addresses) if str(one) not in used)


@dataclass(frozen=True)
class LxdHost:
    """One container."""

    name: str
    address: str
    groups: tuple[str, ...]
    machine_id: str


def design(settings: HostsSettings, bridge: Bridge, made: Mapping[str, LxdHost]) -> tuple[LxdHost, ...]:
    """The hosts of these settings: those that are there as they are, others on free addresses.

    Raises HostError where the bridge has no address left.
    """
    free = iter(bridge.free)
    out = []
    for name in names(settings):
        known = made.get(name)
        address = known.address if known is not None else next(free, None)
        if address is None:
            raise HostError(
                f"bridge {bridge.name} has no address left in {bridge.address.network}",
                action="give the bridge a larger network: lxd_bridge_ipv4 of role lxd",
            )
        out.append(known or LxdHost(name, address, groups(name), uuid.uuid4().hex))
    return tuple(out)


def profile(pool: str, bridge: Bridge, devices: Collection[str]) -> dict[str, Any]:
    """What every host of a lab has: room for container engines and a kubelet, and its network.

    devices: of DEVICES those that the machine with LXD has. Root in such a container is root on that machine:
    kubelets and engines need nothing less.
    """
    out: dict[str, Any] = {
        "root": {"type": "disk", "path": "/", "pool": pool},
        "eth0": {"type": "nic", "name": "eth0", "network": bridge.name},
    }
    for path in devices:
        name = path.strip("/").replace("/", "-")
        if path.startswith("/dev/"):
            out[name] = {"type": "unix-char", "source": path, "path": path}
        else:
            out[name] = {"type": "disk", "source": path, "path": path, "readonly": "true"}
    return {
        "description": "hosts made by slipway",
        "config": {"security.privileged": "true", "security.nesting": "true"},
        "devices": out,
    }


# Of the machine with LXD, as far as they are there
DEVICES = ("/dev/kmsg", "/dev/fuse", "/dev/net/tun", "/usr/lib/modules")


def raw(host: LxdHost, bridge: Bridge) -> str:
    """LXC's own words for one host: what LXD has no key for, its fixed address among it."""
    lines = {
        # the root's own first step: what a kubelet writes of the kernel's settings stays in the container
        "lxc.init.cmd": INIT,
        "lxc.apparmor.profile": "unconfined",
        "lxc.cap.drop": "",
        "lxc.mount.auto": "proc:rw sys:rw cgroup:rw:force",
        "lxc.cgroup.devices.allow": "a",
        "lxc.cgroup2.devices.allow": "a",
        "lxc.net.0.ipv4.address": f"{host.address}/{bridge.address.network.prefixlen}",
        "lxc.net.0.ipv4.gateway": str(bridge.address.ip),
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())
