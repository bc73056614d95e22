"""A disk for virtual machines and clouds: GPT, systemd-boot in an EFI partition, one ext4, as qcow2.

Written without loop devices and mounts: each file system is filled by the program that makes it.
"""

from __future__ import annotations

import json
from pathlib import Path

from slipway.artifacts import machine
from slipway.clients import apt
from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.hosts.formats.neutral_root import HERE, NeutralRoot

BOOT = HERE / "boot.sh"
PROGRAMS = {
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
}
_KERNELS = {"debian": "linux-image-cloud-{}", "ubuntu": "linux-image-virtual"}
_MIB = 1 << 20
_SECTOR = 512
ESP_BYTES = 256 * _MIB
_ROOM = 512 * _MIB  # beyond a quarter of what is in it; the rest comes from a larger disk, at the first boot
_EFI, _LINUX = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
_TABLE = (
    f"label: gpt\nstart=1MiB, size={ESP_BYTES // _MIB}MiB, type={_EFI}, name=esp\ntype={_LINUX}, name=root\n"
)


def packages(root: Path) -> tuple[str, ...]:
    """What a machine needs beyond what a container has: kernel, boot loader, cloud-init, names and time."""
    kernel = _KERNELS[apt.os_release(root / "etc/os-release").get("ID", "debian")]
    return (
        *(kernel.format(machine.architecture()), "initramfs-tools", "udev", "e2fsprogs", "fdisk"),
        *("systemd-boot", "systemd-resolved", "systemd-timesyncd", "cloud-init", "cloud-guest-utils"),
    )


def write(opened: NeutralRoot, file: Path) -> None:
    """Write the disk of a root with `packages` in it and its boot partition in esp/, which boots under UEFI.

    Raises EnvironmentFault where a program fails. Works in the root's folder; `file` is whole or not there.
    """
    folder = opened.folder
    try:
        used = int(
            process.run([*opened.words, "du", "--summarize", "--block-size=1", opened.tree]).stdout.split()[0]
        )
        raw = folder / "disk.raw"
        with raw.open("wb") as disk:
            disk.truncate(disk_bytes(used))
        process.run(["sfdisk", "--quiet", raw], input=_TABLE)
        table = json.loads(process.run(["sfdisk", "--json", raw]).stdout)["partitiontable"]["partitions"]
        boot, root = (_Place(one["start"] * _SECTOR, one["size"] * _SECTOR) for one in table)
        _fill_boot(folder, raw, boot)
        # into the file's middle: -d takes owners, times, capabilities and devices over
        place: list[str | Path] = ["-E", f"offset={root.at}", "-L", "slipway-root", "-d", opened.tree]
        process.run([*opened.words, "mke2fs", "-q", "-t", "ext4", *place, raw, f"{root.size // 1024}k"])
        process.run(["qemu-img", "convert", "-c", "-O", "qcow2", raw, file])
    except (CommandError, OSError) as error:
        file.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"the disk cannot be written to {file}",
            tail=error.output if isinstance(error, CommandError) else str(error),
            action="give a file in a folder that exists and has room for it",
        ) from error


class _Place:
    def __init__(self, at: int, size: int) -> None:
        """Where a partition lies on the disk, in bytes."""
        self.at, self.size = at, size


def disk_bytes(used: int) -> int:
    """The size of a disk for a root of so many bytes, in whole GiB."""
    wanted = ESP_BYTES + used * 5 // 4 + _ROOM
    return -(-wanted // (1 << 30)) * (1 << 30)


def _fill_boot(folder: Path, raw: Path, place: _Place) -> None:
    image = folder / "esp.img"
    with image.open("wb") as part:
        part.truncate(place.size)
    process.run(["mkfs.vfat", "-F", "32", "-s", "1", "-n", "SLIPWAY-ESP", image])
    process.run(["mcopy", "-s", "-i", image, *sorted((folder / "esp").iterdir()), "::/"])
    words = ["bs=1M", f"seek={place.at // _MIB}", "conv=notrunc,sparse", "status=none"]
    process.run(["dd", f"if={image}", f"of={raw}", *words])
    image.unlink()
