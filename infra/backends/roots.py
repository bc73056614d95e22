"""The cached root file system of lab hosts: made once by mmdebstrap, shared read-only by every host."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from infra.backends import controller
from infra.backends.inherit import Site
from infra.backends.labs import flock
from infra.backends.launch import HERE, INIT
from infra.core import events, process
from infra.core.errors import CommandError, EnvironmentFault
from infra.core.events import Emit, Note

# What a bare machine has that Ansible can work on; Docker, containerd and the like are the roles' part.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "python3-debian",
    "sudo",
    "systemd",
    "systemd-sysv",
)
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "getty@.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",  # the network is made from outside, before the host boots
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
)
DISK_BYTES = 1_500_000_000  # mmdebstrap's packages and the unpacked root
_LAYOUT = 1  # raised when _finish changes, so that old roots are not taken for new ones
_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxSessions 64
MaxStartups 64:30:128
"""


def key(site: Site) -> str:
    """The root's name in the cache: changes with suite, packages, site and what _finish does."""
    parts = [
        site.digest,
        PACKAGES,
        MASKED,
        _SSHD,
        _LAYOUT,
        (HERE / "init.sh").read_text(),
        os.uname().machine,
    ]
    return f"{site.suite}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def path(cache: Path, site: Site) -> Path:
    """Where the root of this site lies, made or not."""
    return cache / "roots" / key(site)


def mmdebstrap_argv(site: Site, target: Path) -> list[str]:
    """mmdebstrap for this site, so started that nothing of it outlives this process.

    It runs in process and mount namespaces of its own, whose first process is killed when this one
    dies, and with it everything in there, mounts included.
    """
    keyring = [f"--keyring={site.keyring_file}"] if Path(site.keyring_file).is_file() else []
    return [
        "setpriv",
        "--pdeathsig=KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(PACKAGES)}",
        *keyring,
        *(f'--aptopt={name} "{value}"' for name, value in site.apt_options),
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        site.suite,
        str(target),
        *(source.one_line() for source in site.sources),
    ]


def ensure(cache: Path, site: Site, emit: Emit) -> tuple[Path, bool]:
    """The root of this site and whether it had to be made.

    Made beside and renamed into place: a root that exists is whole. What an ended run left half-made
    is removed first. Raises EnvironmentFault when the disk is too small or mmdebstrap fails.
    """
    root = path(cache, site)
    if root.is_dir():
        return root, False
    root.parent.mkdir(parents=True, exist_ok=True)
    emit(Note(f"making the root of the hosts ({site.suite}), once: about a minute"))
    with flock(root.parent, "another run that makes a root", timeout=1800):
        if root.is_dir():
            return root, False
        for left in root.parent.glob("*.partial"):
            shutil.rmtree(left)
        controller.need_disk(root.parent, DISK_BYTES, "the hosts' root")
        partial = root.with_name(f"{root.name}.partial")
        with events.progress(emit, f"host root {site.suite}"):
            _build(site, partial, emit)
            _finish(site, partial)
            partial.rename(root)
    return root, True


def _build(site: Site, target: Path, emit: Emit) -> None:
    try:
        process.run(
            mmdebstrap_argv(site, target),
            env=dict(site.proxies),
            timeout=1800,
            on_line=lambda line: emit(events.Detail(line)),
        )
    except CommandError as error:
        uris = ", ".join(dict.fromkeys(source.uri for source in site.sources))
        raise EnvironmentFault(
            f"the root of the hosts ({site.suite}) could not be made from {uris}",
            tail=error.output,
            action="check the mirror (it is this machine's own; site.apt_mirror overrides it), proxy and certificates",
        ) from error


def _finish(site: Site, root: Path) -> None:
    """Make a fresh root what a lab host boots from; see each line for why."""
    for number, pem in enumerate(site.certificates, 1):
        _write(root / f"usr/local/share/ca-certificates/site-{number}.crt", pem)
    if site.certificates:
        process.run(["chroot", root, "update-ca-certificates"])
    for unit in MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    process.run(["chroot", root, "systemctl", "--quiet", "enable", "ssh.service"])
    for host_key in (root / "etc/ssh").glob("ssh_host_*"):
        host_key.unlink()  # each host is given its own, pinned before it boots
    _write(root / "etc/ssh/sshd_config.d/10-lab.conf", _SSHD)
    _write(root / "etc/default/locale", "LANG=C.UTF-8\n")
    init = root / INIT.lstrip("/")
    shutil.copyfile(HERE / "init.sh", init)
    init.chmod(0o755)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for written in (root / "etc/apt/sources.list.d").iterdir():
        written.unlink()  # mmdebstrap's own way of writing the same archives
    signed = [("Signed-By", site.keyring_file)] if (root / site.keyring_file.lstrip("/")).is_file() else []
    paragraphs = [
        source.deb822() + "".join(f"{name}: {value}\n" for name, value in signed) for source in site.sources
    ]
    _write(root / f"etc/apt/sources.list.d/{site.distribution}.sources", "\n".join(paragraphs))
    options = "".join(f'{name} "{value}";\n' for name, value in site.apt_options)
    _write(
        root / "etc/apt/apt.conf.d/90site",
        options,
        0o600 if "@" in options else 0o644,  # a proxy's address may carry its password
    )
    for name in ("etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"):
        (root / name).unlink(missing_ok=True)
    lists = root / "var/lib/apt/lists"
    shutil.rmtree(lists, ignore_errors=True)
    (lists / "partial").mkdir(parents=True)
    # apt modules take the age of this folder for the age of the lists: empty ones must look old
    os.utime(lists, (1_577_836_800, 1_577_836_800))


def _write(file: Path, text: str, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
