#!/usr/bin/python
"""Ansible module: what decides how a host is provisioned, read without changing it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_facts
short_description: Facts that decide how a host is provisioned
description:
  - Returns them as C(ansible_facts.slipway_host). Changes nothing; works in check mode.
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
    slipway_host with cgroup (v1, v2), lowers_oom_score, sets_conntrack, swap, package_lists (bool),
    packages (name to installed version), modules and sysctls (what of Kubernetes' needs is in effect),
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


def kubeadm_version() -> str:
    """Version of /usr/bin/kubeadm, without the v; empty when there is none that runs."""
    try:
        done = subprocess.run(
            ["/usr/bin/kubeadm", "version", "-o", "short"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().removeprefix("v")


def facts() -> dict[str, Any]:
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
        "kubeadm": kubeadm_version(),
        "unfinished": unfinished,
        "joined": Path("/etc/kubernetes/kubelet.conf").exists() and not unfinished,
        "control_plane": Path("/etc/kubernetes/admin.conf").exists() and not unfinished,
    }


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, ansible_facts={"slipway_host": facts()})


if __name__ == "__main__":
    main()
