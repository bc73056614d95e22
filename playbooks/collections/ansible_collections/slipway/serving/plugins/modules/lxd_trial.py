#!/usr/bin/python
"""Ansible module: see that LXD launches a container, and leave nothing of it behind."""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.slipway.serving.plugins.module_utils.lxd_api import Lxd, LxdError, named

DOCUMENTATION = r"""
module: lxd_trial
short_description: See that LXD launches a container
description:
  - Launches a container with the default profile, runs a command in it, sees that it reaches the host over
    LXD's bridge, and takes away the container and the image that it brought. Changes nothing that stays, so
    it runs in check mode, too.
options:
  archive:
    description: >-
      An image on this host, one tar with metadata.yaml and rootfs. It need not have more than C(sh), C(bash),
      C(ip) and C(timeout): its container is given an address, since nothing in it would ask for one.
    type: path
  image:
    description: >-
      An image of a server instead, as C(ubuntu:24.04), C(images:debian/13) or https://SERVER ALIAS with a
      blank between them. Its container asks for an address itself.
    type: str
  network:
    description: Bridge of LXD that the container is to have an address on. Without it none is asked for.
    type: str
  name:
    description: Name of the container. One that is there is taken away.
    type: str
    default: slipway-trial
  timeout: {description: Seconds in which the container is to have its address., type: int, default: 30}
author: [slipway]
"""

EXAMPLES = r"""
- name: See that LXD launches a container
  slipway.serving.lxd_trial:
    image: ubuntu:24.04
    network: lxdbr0
"""

RETURN = r"""
address:
  description: Address of the container on the bridge, empty where none was asked for.
  returned: always
  type: str
"""

# What the client calls these servers; the daemon knows addresses only
SERVERS = {
    "ubuntu": "https://cloud-images.ubuntu.com/releases",
    "ubuntu-daily": "https://cloud-images.ubuntu.com/daily",
    "images": "https://images.lxd.canonical.com",
}


def source(image: str) -> dict[str, str]:
    """What the API is told of an image of a server. Raises LxdError for what is none."""
    if " " in image:
        server, _, alias = image.partition(" ")
    else:
        name, _, alias = image.partition(":")
        server = SERVERS.get(name, "")
    if not server.startswith("https://") or not alias.strip():
        known = ", ".join(f"{name}:" for name in SERVERS)
        raise LxdError(
            f"{image} is no image; expected one of {known} with its alias, or https://SERVER ALIAS"
        )
    return {
        "type": "image",
        "mode": "pull",
        "protocol": "simplestreams",
        "server": server,
        "alias": alias.strip(),
    }


def free_address(bridge: str, taken: set[str]) -> str:
    """The last address of the bridge's network that nobody has, with its prefix. bridge: as 10.79.0.1/24."""
    own = ipaddress.IPv4Interface(bridge)
    last = int(own.network.broadcast_address) - 1
    for number in range(last, int(own.network.network_address), -1):
        address = ipaddress.IPv4Address(number)
        if address != own.ip and str(address) not in taken:
            return f"{address}/{own.network.prefixlen}"
    raise LxdError(f"{own.network} has no free address left")


def interface(instance: dict[str, Any], network: str) -> str:
    """What the container calls its interface on a bridge. Raises LxdError where it has none."""
    for name, device in instance["expanded_devices"].items():
        if device.get("type") == "nic" and network in (device.get("network"), device.get("parent")):
            return str(device.get("name", name))
    raise LxdError(f"the default profile connects nothing with {network}")


class Trial:
    """One container. What it made is taken away by end()."""

    def __init__(self, lxd: Lxd, name: str) -> None:
        self.lxd, self.name, self.path = lxd, name, named("/instances", name)
        self.images = {one["fingerprint"] for one in lxd.all("/images")}

    def launch(self, given: dict[str, str]) -> None:
        wanted = {"name": self.name, "type": "container", "profiles": ["default"], "source": given}
        self.lxd.ask("POST", "/instances", wanted)
        self.lxd.ask("PUT", f"{self.path}/state", {"action": "start", "timeout": -1})

    def run(self, *argv: str) -> None:
        """Run a command in the container. Raises LxdError if it fails."""
        asked = {"command": list(argv), "wait-for-websocket": False, "record-output": True}
        told = self.lxd.ask("POST", f"{self.path}/exec", asked)
        if code := told["return"]:
            raise LxdError(f"in the container `{' '.join(argv)}` ended with {code}: {self._words(told)}")

    def _words(self, told: dict[str, Any]) -> str:
        """What the command wrote to stderr: a file that LXD has, and tells as it is."""
        path = str(told.get("output", {}).get("2", "")).removeprefix("/1.0")
        with suppress(LxdError):
            return str(self.lxd.text(path)).strip() if path else ""
        return ""

    def address(self, network: str, timeout: float, give: bool) -> str:
        """The container's address on a bridge. give: it is given one, for it asks for none."""
        nic = interface(self.lxd.ask("GET", self.path), network)
        bridge = self.lxd.ask("GET", named("/networks", network))["config"].get("ipv4.address", "none")
        if bridge == "none":
            return ""
        if give:
            leases = {one["address"] for one in self.lxd.ask("GET", f"{named('/networks', network)}/leases")}
            wanted = free_address(bridge, leases)
            self.run("ip", "link", "set", nic, "up")
            self.run("ip", "address", "add", wanted, "dev", nic)
        end = time.monotonic() + timeout
        while not (found := self._inet(nic)):
            if time.monotonic() > end:
                raise LxdError(f"the container has no address on {network} after {timeout:.0f} s")
            time.sleep(0.2)
        if (
            give
        ):  # LXD's own name server answers there; a firewall of the host's that stops this stops DHCP too
            server = str(ipaddress.IPv4Interface(bridge).ip)
            self.run("timeout", "10", "bash", "-c", f"exec 3<>/dev/tcp/{server}/53")
        return found

    def _inet(self, nic: str) -> str:
        state = self.lxd.ask("GET", f"{self.path}/state")
        addresses = ((state.get("network") or {}).get(nic) or {}).get("addresses", [])
        return next((one["address"] for one in addresses if one["family"] == "inet"), "")

    def end(self) -> None:
        with suppress(LxdError):  # it may have ended by itself
            self.lxd.ask("PUT", f"{self.path}/state", {"action": "stop", "force": True, "timeout": 30})
        try:
            self.lxd.ask("DELETE", self.path)
        except LxdError as error:
            if error.code != 404:
                raise
        for one in self.lxd.all("/images"):
            if one["fingerprint"] not in self.images:
                self.lxd.ask("DELETE", named("/images", one["fingerprint"]))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path"},
            "image": {"type": "str"},
            "network": {"type": "str"},
            "name": {"type": "str", "default": "slipway-trial"},
            "timeout": {"type": "int", "default": 30},
        },
        required_one_of=[("archive", "image")],
        mutually_exclusive=[("archive", "image")],
        supports_check_mode=True,
    )
    archive, network, address = module.params["archive"], module.params["network"], ""
    try:
        lxd = Lxd()
        Trial(lxd, module.params["name"]).end()
        trial = Trial(lxd, module.params["name"])
        try:
            if archive:
                data = Path(archive).read_bytes()
                given = {"type": "image", "fingerprint": lxd.ask("POST", "/images", data)["fingerprint"]}
            else:
                given = source(module.params["image"])
            trial.launch(given)
            trial.run("sh", "-c", "exit 0")
            if network:
                address = trial.address(network, module.params["timeout"], bool(archive))
        finally:
            trial.end()
    except (LxdError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, address=address)


if __name__ == "__main__":
    main()
