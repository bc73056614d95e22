"""The disk of a root boots as a virtual machine, and cloud-init makes of it the one that was asked for."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slipway.clients import ssh
from slipway.core.context import Context
from slipway.core.retry import wait_for
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host
from slipway.hosts.cloud_init import UserData, user_data
from slipway.hosts.formats import disk, writing
from slipway.hosts.nspawn import controller
from slipway.hosts.nspawn.backend import Nspawn

# in the machine each instruction is emulated
pytestmark = [pytest.mark.lab, pytest.mark.soak]

BARE = Settings.model_validate({"hosts": {"workers": 0, "golden": False}})
PROGRAMS = {**disk.PROGRAMS, "qemu-system-x86_64": "qemu-system-x86"}
FIRMWARE = Path("/usr/share/OVMF")
BOOT_SECONDS = 2400.0
# what the boot loader is told beside the disk: this machine may be slow, and that alone is no failure
PATIENCE = "systemd.default_timeout_start_sec=1800 systemd.default_device_timeout_sec=1800"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Path]:
    """A context, and the disk of a bare root, with more room than it was made with."""
    if platform.machine() != "x86_64":
        pytest.fail("the firmware and the emulator that this test starts are those of x86-64")
    missing = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    missing += [] if (FIRMWARE / "OVMF_CODE_4M.fd").is_file() else ["ovmf"]
    folder = tmp_path_factory.mktemp("disk")
    ctx = Context(State(folder / "state"), folder / "run", folder)
    if missing:
        controller.install(missing, ctx.emit)
    root, _ = Nspawn().bake(ctx, BARE)
    file = writing.write(ctx, BARE, root, "qcow2", folder / "node.qcow2").file
    told = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", file]))
    assert told["format"] == "qcow2"
    assert told["virtual-size"] % (1 << 30) == 0
    subprocess.run(["qemu-img", "resize", "-q", file, "+2G"], check=True)
    return ctx, file


@contextmanager
def machine(file: Path, data: UserData, folder: Path) -> Iterator[Host]:
    """A virtual machine with this disk and user-data, until the end of the block."""
    (folder / "user-data").write_text(data.text)
    (folder / "meta-data").write_text(f"instance-id: {data.name}\n")
    seed, variables, console = folder / "seed.img", folder / "variables.fd", folder / "console.log"
    with seed.open("wb") as made:
        made.truncate(1 << 20)
    subprocess.run(["mkfs.vfat", "-n", "CIDATA", seed], check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", seed, folder / "user-data", folder / "meta-data", "::/"], check=True)
    shutil.copyfile(FIRMWARE / "OVMF_VARS_4M.fd", variables)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = FIRMWARE / "OVMF_CODE_4M.fd"
    words = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536"),
        *("-nodefaults", "-display", "none", "-serial", f"file:{console}"),
        *("-drive", f"if=pflash,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
        *("-drive", f"if=virtio,format=qcow2,file={file}"),
        *("-drive", f"if=virtio,format=raw,file={seed}"),
        *("-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-smbios", f"type=11,value=io.systemd.boot.kernel-cmdline-extra={PATIENCE}"),
    ]
    running = subprocess.Popen(words)
    try:
        yield Host(data.name, "127.0.0.1", data.user, data.host_key, (), port=port, identity=data.identity)
        assert running.poll() is None
    except BaseException:
        print(console.read_text(errors="replace")[-8000:] if console.is_file() else "no console")
        raise
    finally:
        running.kill()
        running.wait(30)


def test_it_boots_to_the_user_and_the_key_of_its_user_data(
    written: tuple[Context, Path], tmp_path: Path
) -> None:
    ctx, file = written
    data = user_data(ctx, "away")
    with machine(file, data, tmp_path) as host:

        def answers() -> dict[str, str]:
            with ssh.connect(host) as shell:  # by the key that was made before the machine was
                ask = {
                    "name": ["hostname"],
                    "root": ["sudo", "-n", "id", "-un"],
                    "machine_id": ["cat", "/etc/machine-id"],
                    "size": ["df", "--output=size", "--block-size=1", "/"],
                    "boot": ["findmnt", "--noheadings", "--output", "FSTYPE", "/boot/efi"],
                    "system": ["systemd-detect-virt"],
                    "keys": ["sh", "-c", "ls /etc/ssh/ssh_host_*_key"],
                    "networkd": ["systemctl", "is-active", "systemd-networkd.service"],
                }
                return {name: shell.run(words).stdout.strip() for name, words in ask.items()}

        told = wait_for(
            "the machine's SSH", answers, timeout=BOOT_SECONDS, interval=5, retry_on=(ssh.Unreachable,)
        )
    assert (told["name"], told["root"], told["networkd"]) == ("away", "root", "active")
    assert told["boot"] == "vfat"
    assert told["system"] == "qemu"
    assert len(told["machine_id"]) == 32
    assert int(told["size"].split()[-1]) > 2_000_000_000  # it took the room that its disk was given
