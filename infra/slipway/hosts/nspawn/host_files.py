"""A host's own files, over the root that all hosts share: names, keys, kernel, and what its site needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slipway_client.logins import holds_login

from slipway.clients import ssh
from slipway.core.context import Context
from slipway.core.schema import POD_NETWORK, SERVICE_NETWORK, ClusterSettings, Settings
from slipway.core.types import Host, Hosts
from slipway.hosts import base
from slipway.hosts.base import KeyPair
from slipway.hosts.nspawn import kernel_modules, volumes
from slipway.hosts.nspawn.inherit import Site
from slipway.hosts.nspawn.labs import Lab, LabHost
from slipway.hosts.nspawn.launch import VOLUMES

# Inside the cluster: its names, and its networks by default
_CLUSTER = (".svc", ".cluster.local", SERVICE_NETWORK, POD_NETWORK)
# Services that fetch from outside, images for one
_FETCHING = ("containerd", "docker")


@dataclass(frozen=True)
class File:
    """One file; name is its path in the host, without the first slash."""

    name: str
    content: str | bytes
    mode: int = 0o644


class Named(Protocol):
    """A host that is made here, whatever makes it."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def machine_id(self) -> str: ...


@dataclass(frozen=True)
class Place:
    """What all hosts of a lab have in common: each other, their network, and this machine's site."""

    hosts: Sequence[Named]
    subnet: str
    site: Site


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
        volumes.lay(host.root / "var/lib" / volume, folder / "volumes" / volume)
    files = [*own(ctx, settings, host, Place(lab.hosts, lab.subnet, site)), *_kernel()]
    for file in files:
        path = upper / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(file.mode)  # before the content: what is in it is never there for others to read
        path.chmod(file.mode)
        path.write_bytes(file.content.encode() if isinstance(file.content, str) else file.content)
    (upper / "root").chmod(0o700)
    (upper / "root/.ssh").chmod(0o700)
    (folder / "made").write_text("".join(f"{file.name}\n" for file in files))


def own(ctx: Context, settings: Settings, host: Named, place: Place) -> list[File]:
    """The files of one host, but for what follows from the kernel it runs on."""
    key = base.key_pair(ctx.state.ssh, f"host_{host.name}")
    login = base.key_pair(ctx.state.ssh, base.identity(ctx.state).name).public
    return [
        *_names_and_keys(host, place, key, login),
        *_apt(place.site),
        *_pip(place.site),
        *_proxies(place, settings.cluster),
    ]


def given(folder: Path) -> tuple[str, ...]:
    """The files a host was given, as File.name."""
    return tuple((folder / "made").read_text().split())


def hosts_file(hosts: Iterable[Host | Named]) -> str:
    """/etc/hosts of a lab host."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "\n".join([*lines, *(f"{host.address} {host.name}" for host in hosts), ""])


def write_hosts_files(hosts: Hosts) -> None:
    """Every host knows every name; written over SSH, for what a running host has is its own."""
    wanted = hosts_file(hosts.hosts)

    def write(host: Host) -> None:
        with ssh.connect(host) as connection:
            if connection.run(["cat", "/etc/hosts"]).stdout != wanted:
                connection.run(["sh", "-c", "cat >/etc/hosts"], input=wanted)

    base.on_each(hosts.hosts, write)


def _names_and_keys(host: Named, place: Place, key: KeyPair, login: str) -> list[File]:
    """key: the host's own. login: the public key that may log in as root."""
    return [
        File("etc/hostname", f"{host.name}\n"),
        File("etc/hosts", hosts_file(place.hosts)),
        File("etc/machine-id", f"{host.machine_id}\n", 0o444),
        File("etc/resolv.conf", "".join(f"nameserver {server}\n" for server in place.site.resolvers)),
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


def _apt(site: Site) -> list[File]:
    """The site's logins where apt reads them as root, and nobody else; sources and options name none."""
    auth = site.fetching.auth_conf
    return [File("etc/apt/auth.conf.d/10-site.conf", auth, 0o600)] if auth else []


def _pip(site: Site) -> list[File]:
    values = {"cert": "/etc/ssl/certs/ca-certificates.crt", **dict(site.pip)}
    # a value's further lines are indented, or they would be keys of their own
    lines = ["\n  ".join(f"{key} = {value}".splitlines()) for key, value in values.items()]
    text = "\n".join(["[global]", *lines, ""])
    return [File("etc/pip.conf", text, _mode(text))]


def _mode(text: str) -> int:
    """What holds a login is for root only, who installs packages and logs in here."""
    return 0o600 if holds_login(text) else 0o644


def _proxies(place: Place, cluster: ClusterSettings) -> list[File]:
    """The site's proxies for logins and engines, in both spellings; none for hosts and the cluster.

    PAM reads /etc/environment as root whoever logs in, and systemd reads it for the services that fetch
    something. In a unit's own settings everybody could read them: `systemctl show` asks nobody who they are.
    """
    if not place.site.proxies:
        return []
    lower = dict(place.site.proxies)
    direct = [
        *filter(None, lower.get("no_proxy", "").split(",")),
        *("localhost", "127.0.0.1", place.subnet),
        *(host.name for host in place.hosts),
        *_CLUSTER,
        *filter(None, (cluster.service_subnet, cluster.pod_subnet)),
    ]
    lower["no_proxy"] = ",".join(dict.fromkeys(direct))
    variables = lower | {name.upper(): value for name, value in lower.items()}
    text = "".join(f'{name}="{value}"\n' for name, value in variables.items())
    drop_in = "[Service]\nEnvironmentFile=-/etc/environment\n"
    return [
        File("etc/environment", text, _mode(text)),
        *(File(f"etc/systemd/system/{name}.service.d/10-site.conf", drop_in) for name in _FETCHING),
    ]
