#!/usr/bin/python
"""Ansible module: what decides how a host is provisioned, read without changing it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_facts
short_description: Facts that decide how a host is provisioned
description:
  - Returns them as C(ansible_facts.slipway_host), and beside it, under the names the C(setup) module gives
    them, the few general facts the roles read. One short look per host and run instead of two, which is why
    plays gather with this module. Changes nothing; works in check mode.
options: {}
author: [slipway]
"""

EXAMPLES = r"""
- name: Gather host facts
  host_facts:
"""

RETURN = r"""
ansible_facts:
  description: >-
    distribution, distribution_major_version, distribution_release, all_ipv4_addresses and default_ipv4
    (interface, address, mtu) as setup has them; slipway_host with cgroup (v1, v2), lowers_oom_score, sets_conntrack, swap, package_lists (bool),
    packages (name to installed version), modules and sysctls (what of Kubernetes' needs is in effect),
    units (those that run and start at boot), trust (folders of registries that containerd and Docker trust),
    kubeadm (version or empty), unfinished (a kubeadm run of these roles was cut short), joined and
    control_plane (a finished one; bool).
  returned: always
  type: dict
"""


SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
)
UNITS = ("containerd.service", "docker.service", "docker-registry.service", "kubelet.service")
TRUST = ("/etc/containerd/certs.d", "/etc/docker/certs.d")


def installed_packages(status: str) -> dict[str, str]:
    """Package to version of what dpkg's status file calls installed."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.split("\n") if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" ok installed"):
            found[fields["Package"]] = fields.get("Version", "")
    return found


def lowers_oom_score(file: Path) -> bool:
    """Whether a service here may be protected from the OOM killer.

    Tried, not concluded from capabilities: in a user namespace root has CAP_SYS_RESOURCE and still
    may not. The old score is put back.
    """
    before = file.read_text()
    try:
        file.write_text("-999")
    except PermissionError:
        return False
    file.write_text(before)
    return True


def sets_conntrack(file: Path) -> bool:
    """Whether kube-proxy may set the connection-tracking limits; not so in a container's network."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:  # the kernel module is not loaded yet: a host of its own may set it
        return True
    return bool(mode & 0o200)


def swap_in_use(swaps: str) -> bool:
    return len(swaps.strip().splitlines()) > 1


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def running_units(shown: str) -> list[str]:
    """Of what `systemctl show` prints, the units that run and start at boot."""
    out = []
    for paragraph in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        if unit.get("ActiveState") == "active" and unit.get("UnitFileState") == "enabled":
            out.append(unit["Id"])
    return out


def distribution(release: str) -> dict[str, str]:
    """setup's distribution facts, from /etc/os-release."""
    found = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    found = {name: value.strip("\"'") for name, value in found.items()}
    return {
        "distribution": found.get("ID", "unknown").capitalize(),
        "distribution_major_version": found.get("VERSION_ID", "").split(".")[0],
        "distribution_release": found.get("VERSION_CODENAME", ""),
    }


def network(addresses: list[dict[str, Any]], routes: list[dict[str, Any]]) -> dict[str, Any]:
    """setup's IPv4 facts, from what `ip -json` prints; default_ipv4 is empty without a default route."""
    by_interface = {
        link["ifname"]: [entry["local"] for entry in link["addr_info"] if entry["family"] == "inet"]
        for link in addresses
        if link.get("addr_info")
    }
    found: dict[str, Any] = {
        "all_ipv4_addresses": [
            address
            for name, own in by_interface.items()
            for address in own
            if name != "lo" and not address.startswith("127.")
        ],
        "default_ipv4": {},
    }
    if routes:
        name = routes[0]["dev"]
        own = by_interface.get(name) or [""]
        found["default_ipv4"] = {
            "interface": name,
            "address": routes[0].get("prefsrc") or own[0],
            "mtu": next(link["mtu"] for link in addresses if link["ifname"] == name),
        }
    return found


def facts(run: Callable[[list[str]], str]) -> dict[str, Any]:
    """run: the output of a program, empty when it fails."""
    lists = Path("/var/lib/apt/lists")
    # kubeadm writes its files long before it is done, so their presence alone proves nothing
    unfinished = Path("/etc/kubernetes/kubeadm-unfinished").exists()
    return {
        "cgroup": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "lowers_oom_score": lowers_oom_score(Path("/proc/self/oom_score_adj")),
        "sets_conntrack": sets_conntrack(Path("/proc/sys/net/netfilter/nf_conntrack_max")),
        "swap": swap_in_use(read("/proc/swaps")),
        "package_lists": any(lists.glob("*_Packages*")),
        "packages": installed_packages(read("/var/lib/dpkg/status")),
        "sysctls": {name: read("/proc/sys/" + name.replace(".", "/")).strip() for name in SYSCTLS},
        "kubeadm": run(["/usr/bin/kubeadm", "version", "-o", "short"]).strip().removeprefix("v"),
        "units": running_units(run(["systemctl", "show", "--property=Id,ActiveState,UnitFileState", *UNITS])),
        "trust": [str(folder) for parent in TRUST for folder in Path(parent).glob("*") if folder.is_dir()],
        "unfinished": unfinished,
        "joined": Path("/etc/kubernetes/kubelet.conf").exists() and not unfinished,
        "control_plane": Path("/etc/kubernetes/admin.conf").exists() and not unfinished,
    }


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)

    def run(argv: list[str]) -> str:
        code, out, _err = module.run_command(argv, handle_exceptions=False) if which(argv[0]) else (1, "", "")
        return out if code == 0 else ""

    shown = [
        run(["ip", "-json", "-4", *words]) for words in (["address", "show"], ["route", "show", "default"])
    ]
    if not all(shown):
        module.fail_json(msg="`ip -json address` tells nothing; expected iproute2 on this host")
    general = network(*(json.loads(text) for text in shown))
    general |= distribution(read("/etc/os-release"))
    module.exit_json(changed=False, ansible_facts={**general, "slipway_host": facts(run)})


if __name__ == "__main__":
    main()
