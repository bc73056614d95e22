"""The disk of a virtual machine such as a cloud has it: cloud-init, netplan, systemd-resolved, unattended-upgrades.

Made of Debian's packages, without loop devices, and kept in the cache for a week. Nobody has logged in there yet.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from slipway.artifacts import cache, debian
from slipway.clients import mmdebstrap
from slipway.core import process
from slipway.core.context import Context
from slipway.core.events import Note
from slipway.hosts.nspawn import roots
from slipway.hosts.nspawn.inherit import Site

from tests.vm.uml_kernel import Kernel

PROGRAMS = {"mke2fs": "e2fsprogs", "mmdebstrap": "mmdebstrap"}
PACKAGES = (
    *("ca-certificates", "dbus", "debian-archive-keyring", "e2fsprogs", "iproute2", "iputils-ping", "kmod"),
    *("libpam-systemd", "openssh-server", "procps", "sudo", "systemd-sysv", "udev"),
    *("cloud-init", "netplan.io", "systemd-resolved", "systemd-timesyncd", "unattended-upgrades"),
    *("python3", "python3-apt", "python3-debian"),
)
RECIPE = mmdebstrap.Recipe(
    debian.SUITE,
    "minbase",
    "directory",
    options=(
        "--mode=root",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *mmdebstrap.dpkg_without("/usr/share/man", "/usr/share/doc"),
    ),
)
FILES = {
    "etc/fstab": "LABEL=root / ext4 defaults 0 1\n",
    "etc/machine-id": "",
    "etc/cloud/cloud.cfg.d/90-source.cfg": "datasource_list: [NoCloud, None]\n",
    # the archives are this machine's own
    "etc/cloud/cloud.cfg.d/91-apt.cfg": "apt: {preserve_sources_list: true}\n",
    # as the distribution's images have it
    "etc/apt/apt.conf.d/20auto-upgrades": (
        'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
    ),
}
SIZE = "2G"  # of what is kept; whoever boots from it makes it larger
_LAYOUT = 1  # raised when what follows changes, so that an older image is not taken for it


def ensure(ctx: Context, site: Site, kernel: Kernel) -> Path:
    """The image, an ext4 file system labelled root; from the cache, or made in a minute.

    Raises EnvironmentFault or CommandError where the packages cannot be had.
    """
    week = datetime.now(UTC).strftime("%G-%V")
    decides = (
        site.digest,
        kernel.version,
        *RECIPE.words(),
        *PACKAGES,
        *FILES,
        *FILES.values(),
        str(_LAYOUT),
        week,
    )
    ctx.emit(Note("an image for virtual machines"))

    def make(folder: Path) -> None:
        root = folder / "root"
        try:
            mmdebstrap.make(
                RECIPE,
                root,
                PACKAGES,
                fetching=site.fetching,
                keyring=Path(site.keyring_file),
                within=roots.ENDS_WITH_US,
                env=dict(site.proxies),
            )
            finish(root, site, kernel)
            forget_lists(root)
            words = ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root)]
            process.run([*words, str(folder / "disk"), SIZE], timeout=900)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    return cache.entry(ctx, "vm-image", cache.key_of(*decides), make) / "disk"


def finish(root: Path, site: Site, kernel: Kernel) -> None:
    """Make a fresh root what a cloud's image is: whose it is, is told at its first boot."""
    for number, pem in enumerate(site.certificates, 1):
        write(root / f"usr/local/share/ca-certificates/site-{number}.crt", pem)
    if site.certificates:
        within(root, "update-ca-certificates")
    for name, text in FILES.items():
        write(root / name, text)
    write(
        root / "etc/apt/apt.conf.d/90site",
        "".join(f'{name} "{value}";\n' for name, value in site.apt_options),
    )
    if site.proxies:
        write(root / "etc/environment", "".join(f'{name}="{value}"\n' for name, value in site.proxies))
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink()  # it names a file of this machine
    for made in [*(root / "etc/ssh").glob("ssh_host_*"), root / "etc/hostname", root / "etc/resolv.conf"]:
        made.unlink(missing_ok=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    # modprobe finds there that all is built in
    shutil.copytree(kernel.modules, root / "usr/lib/modules", dirs_exist_ok=True)


def forget_lists(root: Path) -> None:
    """As fresh images are: apt has no lists, in a folder that is from just now."""
    lists = root / "var/lib/apt/lists"
    shutil.rmtree(lists, ignore_errors=True)
    (lists / "partial").mkdir(parents=True)
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)


def within(root: Path, *argv: str | Path, timeout: float = 1800) -> str:
    """Run a program inside a root, with the file systems that it needs and nothing of this machine's environment."""
    script = (
        'mount --bind "$0" "$0"; mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; '
        'exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"'
    )
    return process.run([*roots.ENDS_WITH_US, "sh", "-ec", script, root, *argv], timeout=timeout).stdout


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)
