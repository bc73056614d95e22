#!/usr/bin/python
"""Ansible module: what decides how a host is provisioned, read without changing it."""

from __future__ import annotations

import grp
import hashlib
import ipaddress
import json
import os
import pwd
import re
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts.network.linux import LinuxNetwork, LinuxNetworkCollector
from ansible.module_utils.facts.system.distribution import DistributionFactCollector
from ansible_collections.slipway.serving.plugins.module_utils.firewalls import firewalls

DOCUMENTATION = r"""
module: host_facts
short_description: Facts that decide how a host is provisioned
description:
  - Returns them as C(ansible_facts.slipway_host). Those of the M(ansible.builtin.setup) module that the roles
    decide by, the distribution and the network, come along as it names them, so that one call is enough.
  - The roles of this collection run it where these facts are missing. Changes nothing; works in check mode.
options: {}
author: [slipway]
"""

EXAMPLES = r"""
- name: Gather host facts
  slipway.serving.host_facts:
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to the host's.
  returned: always
  type: dict
  contains:
    slipway_host:
      description: What decides how this host is provisioned.
      type: dict
      contains:
        architecture: {description: "Of the machine, as x86_64 or aarch64.", type: str}
        python: {description: "Version of the distribution's Python, as 3.13.", type: str}
        cgroup: {description: "Version of the control groups, v1 or v2.", type: str}
        lowers_oom_score: {description: Whether services may be protected from the OOM killer., type: bool}
        sets_conntrack: {description: Whether kube-proxy may set the connection-tracking limits., type: bool}
        swap: {description: Whether swap is in use., type: bool}
        disk:
          description: The kubelet's nodefs and imagefs, each with path, and with free and size in bytes.
          type: dict
        clock: {description: "What its clock says, in seconds since 1970.", type: float}
        room:
          description: >-
            Folder to free space in MB, of those where packages and configuration are written; of a file
            system with several, the first.
          type: dict
        package_lists: {description: Whether apt has read any package lists., type: bool}
        packages: {description: Name to version of the installed packages., type: dict}
        snaps: {description: Names of the installed snaps., type: list, elements: str}
        groups:
          description: Group that opens an engine to users to its members, as far as there is such a group.
          type: dict
        held_packages: {description: Those of them that are on hold., type: list, elements: str}
        users: {description: Which of the users that the roles make are there., type: list, elements: str}
        sysctls: {description: "The kernel settings Kubernetes needs, as they are in effect.", type: dict}
        firewalls: {description: "Firewall that is on, to the networks it lets in whole.", type: dict}
        listeners: {description: "TCP port, as a text, to the program that listens on it.", type: dict}
        node_address: {description: Address the kubelet is told to use; empty if none., type: str}
        kubeadm: {description: "Version of kubeadm, empty where there is none.", type: str}
        kubelet: {description: "Version of a node's kubelet program, empty where none has joined.", type: str}
        api_server: {description: "Version of a control plane's API server, else empty.", type: str}
        containerd: {description: "Version of containerd, empty where there is none.", type: str}
        upgrading: {description: Whether an upgrade of Kubernetes was cut short here., type: bool}
        etcd_snapshots:
          description: Names of the folders that upgrades of Kubernetes have kept here, the newest last.
          type: list
          elements: str
        units:
          description: Units of the roles that run with what is written, and start at boot.
          type: list
          elements: str
        behind:
          description: >-
            Units that run and start at boot, and began before what they read was written. A run that ended
            before it restarted them leaves them so.
          type: list
          elements: str
        files:
          description: >-
            Path to sha256, mode, owner and group of the plain files that the roles write, as far as they are
            there; certificates have their text, too.
          type: dict
        docker_daemon:
          description: >-
            Of /etc/docker/daemon.json the keys that role docker sets, dotted, to their values. Others are not
            told, for a proxy's login may be among them.
          type: dict
        images:
          description: Name to digest of the images in containerd's store for Kubernetes that are pinned.
          type: dict
        trust:
          description: Path to text of the files that say which registries Docker and containerd trust.
          type: dict
        unfinished: {description: Whether a kubeadm run of these roles was cut short., type: bool}
        joined: {description: Whether a kubeadm run was finished here., type: bool}
        control_plane: {description: Whether that run made a control plane., type: bool}
        control_plane_files:
          description: Path to text of the files, none of them secret, that say how the control plane is set.
          type: dict
        encrypts_secrets: {description: Whether the API server has a key for secrets., type: bool}
        super_admin: {description: Whether kubeadm's super-admin.conf is there., type: bool}
        certificates:
          description: Certificate of a control plane, by kubeadm's name, to the days until it ends.
          type: dict
        renewing: {description: Whether a renewal of these certificates was cut short., type: bool}
        server_certificates:
          description: >-
            The days until what the kubelet, metrics-server and the registry serve with ends, by their names.
            What the cluster has not signed for a kubelet is left out.
          type: dict
        registry_names: {description: What the registry's certificate is for., type: list, elements: str}
        api_names: {description: What the API server's certificate is for., type: list, elements: str}
"""


SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv6.conf.all.forwarding",
)
# Each unit of the roles, and of what they write for it what it reads when it begins. A package's files
# are as old as the package, and the list of them as its being unpacked.
UNITS = {
    "containerd.service": (
        "/etc/containerd/config.toml",
        "/etc/systemd/system/containerd.service.d/10-program.conf",
        "/usr/local/bin/containerd",
    ),
    "docker.service": ("/etc/docker/daemon.json",),
    "docker-registry.service": ("/etc/docker/registry/config.yml", "/etc/docker/registry/tls/server.crt"),
    "docker-registry-pull.service": (
        "/etc/docker/registry/pull.yml",
        "/etc/docker/registry/tls/server.crt",
        "/etc/systemd/system/docker-registry-pull.service",
    ),
    "kubelet.service": (
        "/etc/default/kubelet",
        "/etc/kubernetes/kubelet.conf.d/10-host.conf",
        "/etc/systemd/system/kubelet.service",
        "/usr/bin/kubelet",
    ),
    "lxd.socket": (),
    "model-server.service": (
        "/etc/systemd/system/model-server.service",
        "/opt/model-server/server/installed.txt",
        "/var/lib/dpkg/info/tensorflow-model-server.list",
        "/var/lib/dpkg/info/tensorflow-model-server-universal.list",
    ),
    "snap.lxd.daemon.unix.socket": (),
}
SNAPS = Path("/snap")
LISTS = Path("/var/lib/apt/lists")
GROUPS = ("docker", "lxd")
USERS = ("model-server",)
# The kubelet's names of the file systems it watches, and the folders they are found by
DISKS = {"nodefs": "/var/lib/kubelet", "imagefs": "/var/lib/containerd"}
# Where something is written whatever the role
WRITTEN = ("/", "/etc", "/usr", "/var", "/var/lib", "/var/lib/dpkg", "/var/cache/apt/archives")
TRUST = ("/etc/containerd/certs.d", "/etc/docker/certs.d")
KUBERNETES = Path("/etc/kubernetes")
# What upgrades keep, a folder each, named by time and version
KEPT = Path("/var/lib/kubernetes-upgrade")
CONTROL_PLANE_FILES = (
    "api-server/audit-policy.yml",
    "api-server/authentication.yml",
    "kubeadm-components.yml",
)
SERVER_CERTIFICATES = {
    "kubelet": "/var/lib/kubelet/pki/kubelet-server-current.pem",
    "metrics-server": "/etc/kubernetes/metrics-server/tls.crt",
    "registry": "/etc/docker/registry/tls/server.crt",
}
# What the roles write and look at in every run. Of the one that holds a key, admin.conf, the digest is told,
# which gives away nothing of what is long and random.
FILES = (
    "/etc/apt/apt.conf.d/80slipway-timeouts",
    "/etc/cni/net.d/10-slipway.conflist",
    "/etc/containerd/config.toml",
    "/etc/default/kubelet",
    "/etc/docker/daemon.json",
    "/etc/docker/registry/config.yml",
    "/etc/docker/registry/pull.yml",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/flannel.yml",
    "/etc/kubernetes/kubelet.conf.d/10-host.conf",
    "/etc/kubernetes/metrics-server/metrics-server.yml",
    "/etc/kubernetes/network-policy.yml",
    "/etc/modules-load.d/kubernetes.conf",
    "/etc/sysctl.d/90-kubernetes.conf",
    "/etc/sysctl.d/90-lxd.conf",
    "/etc/systemd/system/containerd.service.d/10-program.conf",
    "/etc/systemd/system/docker-registry-pull.service",
    "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/model-server.service",
    "/opt/model-server/client/installed.txt",
    "/opt/model-server/client/bin/slipway-prove",
    "/opt/model-server/packages.json-before",
    "/opt/model-server/requests.jsonl",
    "/opt/model-server/server/bin/slipway-model-server",
    "/opt/model-server/server/installed.txt",
    "/usr/bin/kubeadm",
    "/usr/bin/kubectl",
    "/usr/bin/kubelet",
    "/usr/local/bin/containerd",
    "/usr/local/bin/containerd-shim-runc-v2",
    "/usr/local/bin/ctr",
    "/var/lib/lxd/slipway-packages-before",
)
PUBLIC_FILES = ("/etc/docker/registry/tls/ca.crt", "/etc/kubernetes/metrics-server/tls.crt")
# What role docker sets in daemon.json, and none of it secret
DOCKER_KEYS = ("live-restore", "log-driver", "log-opts.max-file", "log-opts.max-size", "mtu")
PIN = "io.cri-containerd.pinned=pinned"
DAY = 24 * 60 * 60


def installed_packages(status: str) -> dict[str, str]:
    """Package to version of what dpkg's status file calls installed."""
    return {fields["Package"]: fields.get("Version", "") for fields in _installed(status)}


def held_packages(status: str) -> list[str]:
    """Installed packages that dpkg's status file calls held."""
    return [fields["Package"] for fields in _installed(status) if fields["Status"].startswith("hold ")]


def _installed(status: str) -> list[dict[str, str]]:
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.split("\n") if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" ok installed"):
            found.append(fields)
    return found


def python_version(program: Path) -> str:
    """Major and minor version of a Python, by the program that its name leads to."""
    named = re.search(r"python(\d+\.\d+)$", str(program.resolve()))
    return named[1] if named else f"{sys.version_info.major}.{sys.version_info.minor}"


def there(name: str) -> bool:
    """Whether there is a user of this name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


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


def has_package_lists(folder: Path) -> bool:
    """Whether apt has read any. The age of the folder tells nothing of that."""
    return any(folder.glob("*_Packages*"))


def disk(folder: Path) -> dict[str, Any]:
    """The file system of a folder, which need not exist yet, measured as the kubelet measures it."""
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    found = os.statvfs(there)
    return {
        "path": str(there),
        "free": found.f_bavail * found.f_frsize,
        "size": found.f_blocks * found.f_frsize,
    }


def room(folders: Sequence[str]) -> dict[str, int]:
    """Folder to free space in MB; of a file system that several are on, the first."""
    found: dict[int, tuple[str, int]] = {}
    for folder in folders:
        if Path(folder).is_dir():
            free = os.statvfs(folder)
            found.setdefault(Path(folder).stat().st_dev, (folder, free.f_bavail * free.f_frsize // 1_000_000))
    return dict(found.values())


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def file_state(path: str) -> dict[str, str] | None:
    """What a plain file holds and who may read it; None where there is none. A link is none."""
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            return None
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return None
    return {
        "sha256": digest.hexdigest(),
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "owner": _name(pwd.getpwuid, found.st_uid),
        "group": _name(grp.getgrgid, found.st_gid),
    }


def _name(find: Callable[[int], Any], number: int) -> str:
    """The name of a user or a group; its number where it has none."""
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


def docker_daemon(text: str) -> dict[str, Any]:
    """Of a daemon.json the keys that role docker sets; none where it is not JSON."""
    try:
        daemon = json.loads(text)
    except ValueError:
        return {}
    found = {}
    for name in DOCKER_KEYS:
        value = daemon
        try:
            for part in name.split("."):
                value = value[part]
        except (KeyError, TypeError):
            continue
        found[name] = value
    return found


def group_members() -> dict[str, list[str]]:
    """Group to members of those groups of the roles that are there."""
    found = {}
    for name in GROUPS:
        try:
            found[name] = sorted(grp.getgrnam(name).gr_mem)
        except KeyError:
            continue
    return found


def file_states() -> dict[str, dict[str, str]]:
    """Path to state of the roles' files that are there; a certificate's has its text, too."""
    found = {path: state for path in (*FILES, *PUBLIC_FILES) if (state := file_state(path)) is not None}
    for path in PUBLIC_FILES:
        if path in found:
            found[path]["text"] = read(path)
    return found


def pinned_images(listing: str) -> dict[str, str]:
    """Name to digest of the images that `ctr images ls` calls pinned."""
    rows = [line.split() for line in listing.splitlines()[1:] if line.strip()]
    return {
        row[0]: next((word for word in row[1:] if word.startswith("sha256:")), "")
        for row in rows
        if PIN in row[-1]
    }


def names_of(printed: str) -> list[str]:
    """What a certificate is for, as IP:a or DNS:b, of what `openssl x509 -ext subjectAltName` prints."""
    found = re.findall(r"(DNS|IP):(\S+?)(?=,|$)", printed.replace("IP Address:", "IP:"), re.MULTILINE)
    # openssl writes FD00:0:0:0:0:0:0:2
    return [f"{kind}:{ipaddress.ip_address(name) if kind == 'IP' else name}" for kind, name in found]


def listeners(shown: str) -> dict[str, str]:
    """TCP port to the program that listens on it, of what `ss -Hltnp` prints."""
    found = {}
    for line in shown.splitlines():
        local, named = line.split()[3:4], re.search(r'users:\(\("([^"]+)"', line)
        if local and named:
            found[local[0].rpartition(":")[2]] = named[1]
    return found


def kubernetes_version(printed: str) -> str:
    """The version in what `kubelet --version` prints, or in a manifest's image of the API server."""
    found = re.search(r"(?:Kubernetes |/kube-apiserver:)v(\d\S*)", printed)
    return found[1] if found else ""


def containerd_version(printed: str) -> str:
    """The version in what `containerd --version` prints, without what a distribution adds."""
    found = re.search(r" v?(\d+\.\d+\.\d+)", printed)
    return found[1] if found else ""


def node_address(text: str) -> str:
    """The address that /etc/default/kubelet gives the kubelet; empty where it gives none."""
    found = re.search(r"--node-ip=(\S+)", text)
    return found[1] if found else ""


def running_units(shown: str) -> dict[str, float]:
    """Of what `systemctl show` prints, the units that run and start at boot: since which second of uptime."""
    out = {}
    for paragraph in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        if unit.get("ActiveState") == "active" and unit.get("UnitFileState") == "enabled":
            out[unit["Id"]] = int(unit.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return out


def is_behind(began: float, written: Iterable[float], uptime: float, now: float) -> bool:
    """Whether a unit began before one of its files was written. What is dated after now says nothing."""
    return any(now - (uptime - began) < moment <= now for moment in written)


def units_behind(running: Mapping[str, float]) -> list[str]:
    """Of these units those that began before what they read was written."""
    uptime, now = time.monotonic(), time.time()
    written = {
        unit: [path.stat().st_mtime for path in map(Path, UNITS[unit]) if path.is_file()] for unit in running
    }
    return [unit for unit, began in running.items() if is_behind(began, written[unit], uptime, now)]


def trusted() -> dict[str, str]:
    """Path to text of the files that say which registries Docker and containerd trust; no key among them."""
    return {
        str(path): read(str(path))
        for parent in TRUST
        for name in ("ca.crt", "hosts.toml")
        for path in sorted(Path(parent).glob(f"*/{name}"))
    }


def days_left(report: str) -> dict[str, float]:
    """Certificate to days until it ends, of what `kubeadm certs check-expiration --output json` prints.

    Those that somebody else's authority signs are left out: kubeadm cannot renew them.
    """
    if not report.strip():
        return {}
    return {
        entry["name"]: round(entry["residualTime"] / DAY, 1)
        for entry in json.loads(report)["certificates"]
        if not entry.get("missing") and not entry.get("externallyManaged")
    }


def days_until(printed: str, now: float) -> float | None:
    """Days until a certificate ends, of what `openssl x509 -noout -enddate` prints; None without one."""
    said, _, end = printed.strip().partition("\n")[0].partition("=")
    return round((ssl.cert_time_to_seconds(end) - now) / DAY, 1) if said == "notAfter" else None


def facts(run: Callable[[list[str]], str]) -> dict[str, Any]:
    """run: the output of a program, empty when it fails."""
    # kubeadm writes its files long before it is done, so their presence alone proves nothing
    unfinished = (KUBERNETES / "kubeadm-unfinished").exists()
    control_plane = (KUBERNETES / "admin.conf").exists() and not unfinished
    joined = (KUBERNETES / "kubelet.conf").exists() and not unfinished
    settings = {str(KUBERNETES / name): read(str(KUBERNETES / name)) for name in CONTROL_PLANE_FILES}
    # with its configuration in hand kubeadm need not ask the cluster, which may be down
    ends = ["kubeadm", "certs", "check-expiration", "--config", str(KUBERNETES / "kubeadm-init.yml")]
    show = ["openssl", "x509", "-noout", "-enddate", "-ext", "subjectAltName", "-in"]
    shown = {name: run([*show, path]) for name, path in SERVER_CERTIFICATES.items() if Path(path).exists()}
    served = {name: days_until(text, time.time()) for name, text in shown.items()}
    status = read("/var/lib/dpkg/status")
    asked = "--property=Id,ActiveState,UnitFileState,ActiveEnterTimestampMonotonic"
    running = running_units(run(["systemctl", "show", asked, *UNITS]))
    behind = units_behind(running)
    return {
        "architecture": os.uname().machine,
        "python": python_version(Path("/usr/bin/python3")),
        "cgroup": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "lowers_oom_score": lowers_oom_score(Path("/proc/self/oom_score_adj")),
        "sets_conntrack": sets_conntrack(Path("/proc/sys/net/netfilter/nf_conntrack_max")),
        "swap": swap_in_use(read("/proc/swaps")),
        "disk": {name: disk(Path(folder)) for name, folder in DISKS.items()},
        "clock": time.time(),
        "room": room(WRITTEN),
        "package_lists": has_package_lists(LISTS),
        "packages": installed_packages(status),
        "held_packages": held_packages(status),
        "snaps": sorted(path.parent.name for path in SNAPS.glob("*/current")),
        "groups": group_members(),
        "users": [name for name in USERS if there(name)],
        "firewalls": firewalls(run),
        "listeners": listeners(run(["ss", "-Hltnp"])),
        "sysctls": {name: read("/proc/sys/" + name.replace(".", "/")).strip() for name in SYSCTLS},
        "kubeadm": run(["/usr/bin/kubeadm", "version", "-o", "short"]).strip().removeprefix("v"),
        "kubelet": kubernetes_version(run(["/usr/bin/kubelet", "--version"])) if joined else "",
        "api_server": kubernetes_version(read(str(KUBERNETES / "manifests/kube-apiserver.yaml")))
        if joined
        else "",
        "containerd": containerd_version(run(["containerd", "--version"])),
        "upgrading": (KUBERNETES / "upgrade-unfinished").exists(),
        "etcd_snapshots": sorted(path.parent.name for path in KEPT.glob("*/etcd.db")),
        "units": [unit for unit in running if unit not in behind],
        "behind": behind,
        "files": file_states(),
        "docker_daemon": docker_daemon(read("/etc/docker/daemon.json")),
        "images": pinned_images(run(["ctr", "--namespace", "k8s.io", "images", "ls"])),
        "trust": trusted(),
        "unfinished": unfinished,
        "joined": joined,
        "node_address": node_address(read("/etc/default/kubelet")) if joined else "",
        "control_plane": control_plane,
        "control_plane_files": {path: text for path, text in settings.items() if text},
        "encrypts_secrets": (KUBERNETES / "api-server/encryption.yml").exists(),
        "super_admin": (KUBERNETES / "super-admin.conf").exists(),
        "certificates": days_left(run([*ends, "--output", "json"])) if control_plane else {},
        "renewing": (KUBERNETES / "renewal-unfinished").exists(),
        "server_certificates": {name: days for name, days in served.items() if days is not None},
        "registry_names": names_of(shown.get("registry", "")),
        "api_names": names_of(run([*show, str(KUBERNETES / "pki/apiserver.crt")])) if control_plane else [],
    }


class Network(LinuxNetwork):
    """Without what ethtool says of each interface: three quarters of all facts, which no role reads."""

    def get_ethtool_data(self, device: str) -> dict[str, Any]:
        return {}


class NetworkCollector(LinuxNetworkCollector):
    _fact_class = Network


def of_ansible(module: AnsibleModule) -> dict[str, Any]:
    """The distribution's and the network's facts, by Ansible's own collectors and under its names.

    An interface that is one end of a pod's cable has no address, and a node has as many of them as pods: of
    those there is only the name.
    """
    network = NetworkCollector().collect(module=module)
    cables = {
        name
        for name in network.get("interfaces", ())
        if name.startswith(("veth", "cali", "lxc")) and "ipv4" not in network.get(name, {})
    }
    found = {**DistributionFactCollector().collect(module=module), **network}
    return {f"ansible_{name}": fact for name, fact in found.items() if name not in cables}


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)

    def run(argv: list[str]) -> str:
        code, out, _err = module.run_command(argv, handle_exceptions=False) if which(argv[0]) else (1, "", "")
        return out if code == 0 else ""

    module.exit_json(changed=False, ansible_facts={**of_ansible(module), "slipway_host": facts(run)})


if __name__ == "__main__":
    main()
