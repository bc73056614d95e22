"""What a host is, apart from which one it is: run there, prints one JSON document.

packages: name -> version. units: name -> whether it is enabled, and whether it runs. files: path below what
provisioning writes to -> mode, owner and content. settings: sysctls. users, groups: names.
"""

import grp
import hashlib
import json
import os
import pwd
import stat
import subprocess

TREES = ("/etc", "/usr", "/opt", "/root", "/var/lib", "/var/spool")
# What runs: engines' stores, clusters' data, and what is remembered of packages beside their list
NOT_LOOKED_INTO = (
    *("/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", "/var/lib/etcd", "/var/lib/apt/lists"),
    *("/var/lib/dpkg", "/var/lib/systemd", "/var/lib/lxd", "/var/lib/cni", "/root/.kube"),
)


def lines(*words: str) -> list[str]:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def undated(path: str, content: bytes) -> bytes:
    """Of a list of passwords without the day each was last set (shadow(5), field 3): users are made on some day."""
    if path.rstrip("-") != "/etc/shadow":
        return content
    entries = [line.split(b":") for line in content.splitlines()]
    return b"\n".join(b":".join([*fields[:2], *fields[3:]]) for fields in entries)


def told(path: str) -> str:
    status = os.lstat(path)
    try:
        owner = f"{pwd.getpwuid(status.st_uid).pw_name}:{grp.getgrgid(status.st_gid).gr_name}"
    except KeyError:
        owner = f"{status.st_uid}:{status.st_gid}"
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)  # noqa: PTH115
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:  # noqa: PTH123
            content = hashlib.sha256(undated(path, file.read())).hexdigest()[:16]
    return f"{stat.filemode(status.st_mode)} {owner} {content}"


def files() -> dict[str, str]:
    out = {}
    for tree in TREES:
        for folder, below, names in os.walk(tree):
            below[:] = [
                name for name in below if f"{folder}/{name}" not in NOT_LOOKED_INTO and name != "__pycache__"
            ]
            for name in (*names, *below):
                out[f"{folder}/{name}"] = told(f"{folder}/{name}")
    return out


def main() -> None:
    packages = dict(
        line.split() for line in lines("dpkg-query", "--show", "--showformat=${Package} ${Version}\n")
    )
    enabled = {
        line.split()[0]: line.split()[1] for line in lines("systemctl", "list-unit-files", "--no-legend")
    }
    running = {
        line.split()[0]
        for line in lines("systemctl", "list-units", "--no-legend", "--plain", "--state=running")
    }
    units = {
        name: f"{enabled.get(name, '-')}{', runs' if name in running else ''}"
        for name in {*enabled, *running}
        if not name.endswith((".scope", ".mount", ".slice", ".device"))
    }
    settings = dict(line.split(" = ", 1) for line in lines("sysctl", "--all", "--ignore") if " = " in line)
    print(
        json.dumps(
            {
                "packages": packages,
                "units": units,
                "files": files(),
                "settings": settings,
                "users": {user.pw_name: user.pw_shell for user in pwd.getpwall()},
                "groups": {group.gr_name: sorted(group.gr_mem) for group in grp.getgrall()},
            }
        )
    )


main()
