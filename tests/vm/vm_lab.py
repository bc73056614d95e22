"""Virtual machines of a test: a network as labs have it, a first boot by cloud-init, and User-mode Linux to run them.

Everything of them is on record as a lab is, so that what a killed test leaves is reclaimed by the next lab.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from slipway.artifacts import debian
from slipway.clients import ssh
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import HostError
from slipway.core.retry import wait_for
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host
from slipway.hosts import base
from slipway.hosts.nspawn import inherit, network, roots
from slipway.hosts.nspawn.backend import Nspawn
from slipway.hosts.nspawn.design import design
from slipway.hosts.nspawn.labs import Lab, Records, lab_name
from slipway_stacks import cloud_init

from tests.lab_traces import traces
from tests.vm.uml_kernel import Kernel

ROOT = Path(__file__).parents[2]
PROGRAMS = {"ethtool": "ethtool", "genisoimage": "genisoimage", "resize2fs": "e2fsprogs"}
DISK = 16 << 30
MEMORY_MIB = 3072
BOOT_SECONDS = 600.0  # five times what it takes where much else runs
# On a tmpfs of its own, which may hold what is executed and ends with the machine: that is where its memory lies.
# As the first process of a namespace it leaves no other behind.
_START = 'mount -t tmpfs -o size="$1",mode=700 memory "$2"; export TMPDIR="$2"; shift 2; exec "$@"'


@dataclass
class Machine:
    """A machine that runs. host: as user debian, whom sudo asks for nothing. password: what sudo asks user ops for."""

    host: Host
    password: str
    disk: Path
    console: Path
    child: subprocess.Popen[bytes]
    seconds: float = 0.0  # from its start to the first SSH banner

    def on(self, script: str, timeout: float = 120, input: str | None = None) -> str:
        """What a shell script prints there, as root by sudo."""
        with ssh.connect(self.host) as connection:
            return connection.run(["sh", "-c", script], timeout=timeout, input=input).stdout

    def inventory(self, folder: Path, user: str, groups: Sequence[str], **variables: Any) -> Path:
        """An inventory such as its owner would write it, of this machine alone, as this user reaches it."""
        known = folder / "known_hosts"
        known.write_text(f"{self.host.address} {self.host.host_key}\n")
        reached = {
            "ansible_host": self.host.address,
            "ansible_user": user,
            "ansible_ssh_private_key_file": str(self.host.identity),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
            **variables,
        }
        path = folder / "machines.yml"
        children: dict[str, Any] = {group: {"hosts": {self.host.name: {}}} for group in groups}
        path.write_text(yaml.safe_dump({"all": {"hosts": {self.host.name: reached}, "children": children}}))
        path.chmod(0o600)  # sudo's password may be in it
        return path

    def cut(self) -> None:
        """What a cut of its power does."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait(30)


@dataclass
class VmLab:
    """The network of up to two machines, and those that were started."""

    folder: Path
    ctx: Context
    site: inherit.Site
    lab: Lab
    kernel: Kernel
    image: Path
    machines: list[Machine] = field(default_factory=list)

    def boot(
        self,
        number: int = 0,
        *,
        image: Path | None = None,
        processors: int = 2,
        more: Mapping[str, Any] | None = None,
    ) -> Machine:
        """Start a machine and wait until it is what its user-data says. more: of the cloud-config.

        Raises HostError with the last lines of its console when it does not come up.
        """
        own = self.lab.hosts[number]
        folder = base.private_folder(self.folder / own.name)
        keys = base.private_folder(self.folder / "keys")
        login, key = base.key_pair(keys, "login"), base.key_pair(keys, own.name)
        host = Host(own.name, own.address, "debian", key.public, own.groups, identity=keys / "login")
        password = secrets.token_urlsafe(12)
        disk, console = folder / "disk", folder / "console"
        process.run(["cp", "--sparse=always", image or self.image, disk], timeout=300)
        os.truncate(disk, DISK)
        process.run(["resize2fs", "-f", disk], timeout=300)
        self._seed(folder, host, login, key, password, more or {})
        self._cable(number)
        (folder / "memory").mkdir()
        argv: list[str] = [
            *(str(self.kernel.program), f"mem={MEMORY_MIB}M", f"ncpus={processors}", "seccomp=on"),
            *(f"umid={own.name}", f"uml_dir={folder}/"),
            *(f"ubd0={disk}", f"ubd1r={folder / 'seed.iso'}", "root=/dev/ubda", "rw"),
            # its tap transport panics with more than one processor
            f"vec0:transport=raw,ifname={own.interface}v,depth=64,mac={network.mac(own.address)}",
            *("con=null", "con0=null,fd:1", "con1=null", "ssl=null"),
        ]
        begun = time.monotonic()
        with console.open("wb") as printed:
            child = subprocess.Popen(
                [
                    *roots.ENDS_WITH_US,
                    "sh",
                    "-ec",
                    _START,
                    "sh",
                    f"{MEMORY_MIB + 64}M",
                    str(folder / "memory"),
                    *argv,
                ],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        machine = Machine(host, password, disk, console, child)
        self.machines.append(machine)
        wait_for_ssh(machine, begun)
        machine.seconds = time.monotonic() - begun
        # cloud-init makes the users after there is a banner, and starts sshd anew
        told = wait_for(
            "cloud-init's end",
            lambda: _first_boot(host),
            timeout=BOOT_SECONDS,
            retry_on=(HostError,),
            where=own.name,
        )
        if "status: done" not in told:
            raise HostError("cloud-init failed", where=own.name, tail=told)
        return machine

    def _seed(
        self,
        folder: Path,
        host: Host,
        login: base.KeyPair,
        key: base.KeyPair,
        password: str,
        more: Mapping[str, Any],
    ) -> None:
        """What cloud-init reads: the user-data that slipway gives fresh machines, and a user whom sudo asks."""
        text = cloud_init.user_data(
            host.name, "debian", login.public, host_key=key.private.decode(), host_key_public=key.public
        )
        data: dict[str, Any] = yaml.safe_load(text)
        data["users"].append(
            {
                **{"name": "ops", "shell": "/bin/bash", "groups": ["sudo"], "lock_passwd": False},
                **{"plain_text_passwd": password, "ssh_authorized_keys": [login.public]},
            }
        )
        card = {
            "match": {"macaddress": network.mac(host.address)},
            "mtu": self.lab.mtu,
            "addresses": [f"{host.address}/{self.lab.subnet.partition('/')[2]}"],
            "routes": [{"to": "default", "via": self.lab.gateway}],
            "nameservers": {"addresses": list(self.site.resolvers)},
        }
        # the disk has no partition to grow, and is as large as it gets
        data |= {"growpart": {"mode": "off"}, "resize_rootfs": False, **more}
        seed = base.private_folder(folder / "seed")
        (seed / "user-data").write_text("#cloud-config\n" + yaml.safe_dump(data, sort_keys=False))
        (seed / "meta-data").write_text(
            yaml.safe_dump({"instance-id": host.name, "local-hostname": host.name})
        )
        (seed / "network-config").write_text(yaml.safe_dump({"version": 2, "ethernets": {"lab": card}}))
        iso = [
            "genisoimage",
            "-quiet",
            "-volid",
            "cidata",
            "-joliet",
            "-rock",
            "-output",
            str(folder / "seed.iso"),
        ]
        process.run(
            [*iso, *(seed / name for name in ("user-data", "meta-data", "network-config"))], timeout=60
        )
        (folder / "seed.iso").chmod(0o600)

    def _cable(self, number: int) -> None:
        own, mtu = self.lab.hosts[number], str(self.lab.mtu)
        far = f"{own.interface}v"
        process.run(
            ["ip", "link", "add", own.interface, "mtu", mtu, "type", "veth", "peer", "name", far, "mtu", mtu]
        )
        process.run(["ip", "link", "set", own.interface, "master", self.lab.bridge, "up"])
        # this machine's own stack must not answer for what the other machine asks
        process.run(["ip", "link", "set", far, "arp", "off", "promisc", "on", "up"])
        for card in (own.interface, far, self.lab.bridge):
            # else it is handed segments larger than its MTU, which it drops: downloads hang
            process.run(["ethtool", "--offload", card, "tso", "off", "gso", "off", "gro", "off"])


def _first_boot(host: Host) -> str:
    """What cloud-init says when it is through. Raises HostError while nobody can log in."""
    with ssh.connect(host) as connection:
        connection.run(["cloud-init", "status", "--wait"], timeout=BOOT_SECONDS, check=False)
        return connection.run(["cloud-init", "status", "--long"], check=False).stdout


def wait_for_ssh(machine: Machine, begun: float) -> None:
    """Until there is an SSH banner. begun: by time.monotonic. Raises HostError when none comes."""
    while time.monotonic() < begun + BOOT_SECONDS:
        if machine.child.poll() is not None:
            break
        with suppress(OSError), socket.create_connection((machine.host.address, 22), 2) as there:
            there.settimeout(5)
            if there.recv(4) == b"SSH-":
                return
        time.sleep(0.2)
    ended = "ended" if machine.child.poll() is not None else "shows no SSH banner"
    tail = machine.console.read_text(errors="replace").splitlines()[-40:]
    raise HostError(f"the machine {ended}", where=machine.host.name, tail="\n".join(tail))


@contextmanager
def vm_lab(
    folder: Path, kernel: Kernel, image: Path, machines: int = 1, reach: Sequence[str] = ()
) -> Iterator[VmLab]:
    """A network for so many machines; they and it are gone without a trace afterwards."""
    ctx = Context(State(folder / ".lab"), folder / "run", ROOT)
    settings = Settings.model_validate({"hosts": {"workers": machines - 1, "reach": list(reach)}})
    site = inherit.site(settings.site, debian.SUITE)
    records = Records()
    vms: VmLab | None = None
    try:
        base.private_folder(ctx.state.root)
        hosts = base.private_folder(ctx.state.hosts)
        with records.locked():
            networks = settings.cluster_networks()
            lab = design(ctx.state.root, settings.hosts, site.suite, None, records.all(), cluster=networks)
            lab = replace(lab, hosts=tuple(replace(host, root=hosts) for host in lab.hosts))
            records.write(lab)
            (hosts / "token").write_text(f"{lab.token}\n")
            refuse = network.refused(network.addresses())
            opened = [*inherit.openings(site.services(), refuse), *map(network.Opening, settings.hosts.reach)]
            network.up(lab, opened, refuse)
        vms = VmLab(folder, ctx, site, lab, kernel, image)
        yield vms
    finally:
        for machine in vms.machines if vms is not None else ():
            machine.cut()
        Nspawn(records).down(ctx)
        assert traces(lab_name(ctx.state.root)) == []
