"""A host's own files, laid over the root that all hosts share: names, keys, kernel, and what its site needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from infra.backends import base, kernel_modules
from infra.backends.base import KeyPair
from infra.backends.inherit import Site
from infra.backends.labs import Lab, LabHost
from infra.backends.launch import VOLUMES
from infra.core.context import Context
from infra.core.schema import ClusterSettings, Settings
from infra.core.types import Host

# Inside the cluster: its names, and the networks of the roles' defaults (playbooks/roles/control_plane).
_CLUSTER = (".svc", ".cluster.local", "10.96.0.0/12", "10.244.0.0/16")


@dataclass(frozen=True)
class File:
    """One file; name is its path in the host, without the first slash."""

    name: str
    content: str | bytes
    mode: int = 0o644


def prepared(folder: Path) -> bool:
    """Whether a host's folder is whole."""
    return (folder / "made").exists()


def prepare(ctx: Context, settings: Settings, lab: Lab, host: LabHost, site: Site) -> None:
    """Make a host's folder with its own files; `made` is the last one, so a half-made host starts anew."""
    folder = ctx.state.hosts / host.name
    if folder.exists():
        shutil.rmtree(folder)
    upper = base.private_folder(folder) / "upper"
    upper.mkdir(mode=0o755)
    for volume in VOLUMES:
        (folder / "volumes" / volume).mkdir(parents=True)
    key = base.key_pair(ctx.state.ssh, f"host_{host.name}")
    login = base.key_pair(ctx.state.ssh, base.identity(ctx.state).name).public
    for file in [
        *_names_and_keys(lab, host, site, key, login),
        *_kernel(),
        *_pip(site),
        *_proxies(lab, site, settings.cluster),
    ]:
        path = upper / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content.encode() if isinstance(file.content, str) else file.content)
        path.chmod(file.mode)
    (upper / "root").chmod(0o700)
    (upper / "root/.ssh").chmod(0o700)
    (folder / "made").write_text("")


def hosts_file(hosts: Iterable[Host | LabHost]) -> str:
    """/etc/hosts of a lab host."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "\n".join([*lines, *(f"{host.address} {host.name}" for host in hosts), ""])


def _names_and_keys(lab: Lab, host: LabHost, site: Site, key: KeyPair, login: str) -> list[File]:
    """key: the host's own. login: the public key that may log in as root."""
    return [
        File("etc/hostname", f"{host.name}\n"),
        File("etc/hosts", hosts_file(lab.hosts)),
        File("etc/machine-id", f"{host.machine_id}\n", 0o444),
        File("etc/resolv.conf", "".join(f"nameserver {server}\n" for server in site.resolvers)),
        File("etc/ssh/ssh_host_ed25519_key", key.private, 0o600),
        File("etc/ssh/ssh_host_ed25519_key.pub", f"{key.public}\n"),
        File("root/.ssh/authorized_keys", f"{login} slipway\n", 0o600),
    ]


def _kernel() -> list[File]:
    release = os.uname().release
    folder = f"usr/lib/modules/{release}"
    return [
        File(f"{folder}/modules.builtin", kernel_modules.builtin_listing(kernel_modules.there(release))),
        File(f"{folder}/modules.order", ""),  # depmod warns without these two
        File(f"{folder}/modules.builtin.modinfo", ""),
    ]


def _pip(site: Site) -> list[File]:
    values = {"cert": "/etc/ssl/certs/ca-certificates.crt", **dict(site.pip)}
    # a value's further lines are indented, or they would be keys of their own
    lines = ["\n  ".join(f"{key} = {value}".splitlines()) for key, value in values.items()]
    return [File("etc/pip.conf", "\n".join(["[global]", *lines, ""]))]


def _proxies(lab: Lab, site: Site, cluster: ClusterSettings) -> list[File]:
    """The site's proxies for logins and services, in both spellings; never between hosts or inside the cluster."""
    if not site.proxies:
        return []
    lower = dict(site.proxies)
    direct = [
        *filter(None, lower.get("no_proxy", "").split(",")),
        *("localhost", "127.0.0.1", lab.subnet),
        *(host.name for host in lab.hosts),
        *_CLUSTER,
        *filter(None, (cluster.service_subnet, cluster.pod_subnet)),
    ]
    lower["no_proxy"] = ",".join(dict.fromkeys(direct))
    variables = lower | {name.upper(): value for name, value in lower.items()}
    # systemd expands % in its own files
    quoted = " ".join(f'"{name}={value}"'.replace("%", "%%") for name, value in variables.items())
    return [
        File("etc/environment", "".join(f'{name}="{value}"\n' for name, value in variables.items())),
        File("etc/systemd/system.conf.d/10-site.conf", f"[Manager]\nDefaultEnvironment={quoted}\n"),
    ]
