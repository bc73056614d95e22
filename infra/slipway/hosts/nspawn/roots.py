"""The cached root file system of lab hosts: made once by mmdebstrap, shared read-only by every host."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import Any

from slipway.clients import mmdebstrap
from slipway.core import events, ownership, process
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.events import Emit, Note
from slipway.core.lock import flock
from slipway.core.state import cache_folder
from slipway.hosts.nspawn import controller
from slipway.hosts.nspawn.inherit import Site
from slipway.hosts.nspawn.launch import HERE, INIT

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
_APT = (("APT::Install-Recommends", "false"), ("Acquire::Languages", "none"))
DISK_BYTES = 1_500_000_000  # mmdebstrap's packages and the unpacked root
_MARK = "usr/lib/slipway-root.json"  # when it was made and how large it is: the last file that is written
_LAYOUT = 3  # raised when _finish changes, so that old roots are not taken for new ones
# A command in process and mount namespaces of its own, whose first process is killed when this one dies, and
# with it everything in there, mounts included
ENDS_WITH_US = (
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
)
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


def path(cache: Path, site: Site, refresh_days: int, now: datetime | None = None) -> Path:
    """Where the root of this site lies: the newest, if it is whole and young enough, else one to be made.

    An older one keeps its name, because labs may run on it.
    """
    newest = _newest(cache, site)
    if newest is None or not (damage(newest) or made(newest) < _oldest(refresh_days, now)):
        return newest or cache / "roots" / key(site)
    day = f"{key(site)}.{now or datetime.now(UTC):%Y%m%d}"
    names = itertools.chain([day], (f"{day}-{number:02}" for number in itertools.count(2)))
    return next(one for name in names if not (one := cache / "roots" / name).exists())


def ensure(
    cache: Path, site: Site, emit: Emit, *, refresh_days: int, in_use: Collection[Path] = ()
) -> tuple[Path, bool]:
    """The root of this site and whether it had to be made.

    A root is whole when it is as large as it was when it was put on the disk. One that is older than
    refresh_days is made anew; where that fails, the old one is used, and a Note says so. in_use: roots of
    labs on record, which stay. Raises EnvironmentFault when the disk is too small, mmdebstrap fails and there
    is none to fall back on, or somebody else can write the cache.
    """
    root = path(cache, site, refresh_days)
    folder = cache_folder(cache, "roots")
    ownership.require_own("the hosts' root", root)
    if root.is_dir():
        return root, False
    with flock(folder, "another run that makes a root", timeout=1800):
        root = path(cache, site, refresh_days)
        if root.is_dir():
            return root, False
        before = _newest(cache, site)
        wrong = damage(before) if before is not None else ""
        why = f" ({wrong or f'older than {refresh_days} days'})" if before is not None else ", once"
        emit(Note(f"making the root of the hosts ({site.suite}){why}: about a minute"))
        try:
            _make(site, root, emit)
        except EnvironmentFault as error:
            if before is None or wrong:
                raise
            emit(Note(f"{error.what}; the root of {made(before):%Y-%m-%d} is used"))
            return before, False
        for old in folder.glob(f"{key(site)}*"):
            if old != root and old not in in_use:
                shutil.rmtree(old, ignore_errors=True)
    return root, True


def _make(site: Site, root: Path, emit: Emit) -> None:
    for left in root.parent.glob("*.partial"):
        shutil.rmtree(left)
    controller.need_disk(root.parent, DISK_BYTES, "the hosts' root")
    partial = root.with_name(f"{root.name}.partial")
    with events.progress(emit, f"host root {site.suite}"):
        _build(site, partial, emit)
        _finish(site, partial)
        keep(partial, root)


def keep(partial: Path, root: Path) -> None:
    """Give a root that is whole its name, and note when it was made and how large it is."""
    files, size = _extent(partial)
    mark = {"made": datetime.now(UTC).isoformat(), "files": files, "bytes": size}
    _write(partial / _MARK, json.dumps(mark) + "\n")
    # dpkg wrote without syncing: after a power cut a renamed root would be there and its files empty
    process.run(["sync", "--file-system", partial])
    partial.rename(root)


def _newest(cache: Path, site: Site) -> Path | None:
    found = sorted((cache / "roots").glob(f"{key(site)}*"), key=lambda one: one.name)
    there = [one for one in found if one.is_dir() and one.suffix != ".partial"]
    return there[-1] if there else None


def _oldest(refresh_days: int, now: datetime | None) -> datetime:
    return (now or datetime.now(UTC)) - timedelta(days=refresh_days)


def _mark(root: Path) -> dict[str, Any]:
    try:
        mark = json.loads((root / _MARK).read_text())
        return {"made": datetime.fromisoformat(mark["made"]), "extent": (mark["files"], mark["bytes"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def made(root: Path) -> datetime:
    """When a root was made; long ago if it does not say."""
    made = _mark(root).get("made")
    return made if isinstance(made, datetime) else datetime.min.replace(tzinfo=UTC)


def damage(root: Path) -> str:
    """What is wrong with a root, "" if it is as it was when it was made."""
    mark = _mark(root)
    if not mark:
        return "it was never finished"
    files, size = _extent(root)
    if (files, size) != mark["extent"]:
        there = mark["extent"]
        return f"it has {files} files of {size} bytes, not {there[0]} of {there[1]}"
    return ""


def _extent(root: Path) -> tuple[int, int]:
    """How many files a root has, and how many bytes they are; its mark is not counted."""
    files = size = 0
    for folder, _, names in os.walk(root):
        for name in names:
            stat = os.lstat(f"{folder}/{name}")
            files += 1
            size += stat.st_size if S_ISREG(stat.st_mode) else 0
    mark = root / _MARK
    return (files - 1, size - mark.stat().st_size) if mark.is_file() else (files, size)


def _build(site: Site, target: Path, emit: Emit) -> None:
    recipe = mmdebstrap.Recipe(
        site.suite,
        "minbase",
        "directory",
        options=(
            "--mode=root",
            *(f'--aptopt={name} "{value}"' for name, value in _APT),
            "--dpkgopt=force-unsafe-io",
            *mmdebstrap.dpkg_without("/usr/share/man", "/usr/share/doc"),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        ),
    )
    try:
        mmdebstrap.make(
            recipe,
            target,
            PACKAGES,
            fetching=site.fetching,
            keyring=Path(site.keyring_file),
            within=ENDS_WITH_US,
            env=dict(site.proxies),
            on_line=lambda line: emit(events.Detail(line)),
        )
    except CommandError as error:
        uris = ", ".join(dict.fromkeys(source.uri for source in site.sources))
        raise EnvironmentFault(
            f"the root of the hosts ({site.suite}) could not be made from {uris}",
            tail=error.output,
            action="check the mirror (it is this machine's own; site.apt_mirror overrides it), proxy and "
            "certificates",
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
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink()  # it names a file of this machine
    options = "".join(f'{name} "{value}";\n' for name, value in (*_APT, *site.apt_options))
    _write(root / "etc/apt/apt.conf.d/90site", options)
    for name in ("etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"):
        (root / name).unlink(missing_ok=True)
    lists = root / "var/lib/apt/lists"
    shutil.rmtree(lists, ignore_errors=True)
    (lists / "partial").mkdir(parents=True)
    # apt modules take the age of this folder for the age of the lists: empty ones must look old
    os.utime(lists, (1_577_836_800, 1_577_836_800))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)
