"""Backend nspawn: hosts made on this machine, each a systemd-nspawn container with its own network."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from infra.backends import base, cgroups, inherit, network, roots, sysctls
from infra.backends.base import HostStatus
from infra.backends.labs import Lab, LabHost, Records, interface_name, lab_name
from infra.backends.launch import DEVICES, VOLUMES, Launch, service_argv, supervised_argv
from infra.clients import ssh
from infra.core import process
from infra.core.context import Context
from infra.core.errors import CommandError, EnvironmentFault, HostError, SlipwayError
from infra.core.events import Note
from infra.core.retry import Pending, wait_for
from infra.core.schema import Settings
from infra.core.state import write_atomically
from infra.core.types import Host, Hosts, Outcome

T = TypeVar("T")
R = TypeVar("R")

# Program -> the package of Debian and Ubuntu that has it.
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "depmod": "kmod",
}
MODULES: tuple[str, ...] = (
    "overlay",
    "br_netfilter",
    "nf_conntrack",
    "ip_tables",
    "iptable_nat",
    "xt_conntrack",
    "xt_physdev",
    "veth",
    "vxlan",
    "tun",
    "fuse",
    "loop",
)
HOST_DISK_BYTES = 3_000_000_000  # engine, images and Kubernetes on one host
BOOT_SECONDS = 90.0


@dataclass(frozen=True)
class _Machine:
    """What of this machine decides how hosts run; read once for each call."""

    systemd: bool
    missing: tuple[str, ...]

    @staticmethod
    def look(distribution_keyring: tuple[str, str]) -> _Machine:
        file, package = distribution_keyring
        missing = [package_ for program, package_ in PROGRAMS.items() if shutil.which(program) is None]
        if not Path(file).is_file():
            missing.append(package)
        return _Machine(Path("/run/systemd/system").is_dir(), tuple(dict.fromkeys(missing)))


class Nspawn:
    """Hosts on this machine. Needs Linux and root; nothing of them outlives `down`."""

    name = "nspawn"

    def __init__(self, records: Records | None = None) -> None:
        self.records = records or Records()

    # -- what would change ------------------------------------------------------------------------

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """See Backend.plan."""
        self._need_platform()
        site = inherit.site(settings.site, settings.hosts.suite)
        machine = _Machine.look((site.keyring_file, site.keyring_package))
        lab = self._recorded(ctx)
        wanted = self._design(ctx, settings, lab)
        lines: list[str] = []
        if machine.missing:
            lines.append(f"install with apt: {' '.join(machine.missing)}")
        if not roots.path(ctx.cache, site).is_dir() and self._to_make(ctx, wanted):
            lines.append(f"make the hosts' root ({site.suite}) in {roots.path(ctx.cache, site).parent}")
        if not network.link_exists(wanted.bridge):
            lines.append(
                f"make bridge {wanted.bridge} with {wanted.gateway} of {wanted.subnet}, MTU {wanted.mtu}"
            )
            lines.append(f"add firewall chains {wanted.forward_chain} and {wanted.nat_chain} (IPv4)")
        if network.IP_FORWARD.read_text().strip() != "1":
            lines.append("turn on net.ipv4.ip_forward (put back by down)")
        lines += [f"raise {name} to {value} (put back by down)" for name, value in sysctls.too_low().items()]
        lines += [
            f"make and boot host {host.name} ({host.address}, {', '.join(host.groups)})"
            if host in self._to_make(ctx, wanted)
            else f"boot host {host.name} ({host.address})"
            for host in wanted.hosts
            if not self._running(ctx, host)
        ]
        if lab is not None:
            names = {host.name for host in wanted.hosts}
            lines += [f"remove host {host.name}" for host in lab.hosts if host.name not in names]
        return lines

    # -- up ---------------------------------------------------------------------------------------

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """See Backend.up."""
        self._need_platform()
        self._need_root()
        changed = self._reclaim(ctx)
        for line in self.plan(ctx, settings):
            ctx.emit(Note(line))
        site = inherit.site(settings.site, settings.hosts.suite)
        machine = _Machine.look((site.keyring_file, site.keyring_package))
        if machine.missing:
            install(machine.missing, ctx)
            changed += 1
        with self.records.locked():
            before = self._recorded(ctx)
            lab = self._design(ctx, settings, before)
            self._need_free_name(lab, before)
            self._need_disk(ctx, self._to_make(ctx, lab))
            if before is None:
                self.records.write(lab)  # the subnet is taken from here on, whatever happens
        base.private_folder(ctx.state.root)
        base.private_folder(ctx.state.hosts)
        write_atomically(ctx.state.hosts / "token", lab.token + "\n")
        base.key_pair(base.private_folder(ctx.state.ssh), base.identity(ctx.state).name)
        if self._to_make(ctx, lab):
            root, made = roots.ensure(ctx.cache, site, ctx.emit)
            changed += made
            lab = replace(
                lab,
                hosts=tuple(
                    replace(host, root=root) if host in self._to_make(ctx, lab) else host
                    for host in lab.hosts
                ),
            )
        if before is not None:
            changed += self._remove_surplus(ctx, before, lab)
        lab = replace(lab, modules_loaded=tuple(dict.fromkeys([*lab.modules_loaded, *_modules_to_load()])))
        for host in lab.hosts:
            if not self._running(ctx, host):
                self._end(host)  # what a killed `up` or a crash left; on record in its old cgroups
        lab = replace(
            lab,
            hosts=tuple(
                host
                if machine.systemd or self._running(ctx, host)
                else replace(host, cgroups=cgroups.own_folders(host.machine))
                for host in lab.hosts
            ),
        )
        self.records.write(lab)
        if to_load := _modules_to_load():
            process.run(["modprobe", "--all", "--quiet", *to_load], check=False)
        changed += len(sysctls.put(sysctls.too_low()))
        with self.records.locked():
            allowed = [
                *site.servers(),
                *([settings.image.registry.partition(":")[0]] if settings.image.registry else []),
            ]
            changed += network.up(lab, inherit.private_addresses(allowed))
        changed += self._boot_all(ctx, lab, site)
        hosts = Hosts(self.name, self._facts(ctx, lab), base.identity(ctx.state))
        base.record(ctx.state, hosts)
        self._hosts_files(hosts)
        summary = f"{len(hosts.hosts)} hosts in {lab.subnet} ({lab.suite}, {lab.bridge})"
        return Outcome(hosts, changed, summary if changed else f"{summary}, unchanged")

    def _design(self, ctx: Context, settings: Settings, lab: Lab | None) -> Lab:
        """The lab these settings ask for: its record continued, or a new one on a free subnet."""
        suite = settings.hosts.suite or (lab.suite if lab else inherit.site(settings.site, None).suite)
        if lab is not None:
            for what, have, want in (
                ("hosts.suite", lab.suite, suite),
                ("hosts.subnet", lab.subnet, settings.hosts.subnet or lab.subnet),
                ("hosts.mtu", str(lab.mtu), str(settings.hosts.mtu or lab.mtu)),
            ):
                if have != want:
                    raise HostError(
                        f"this lab was made with {what} {have}, the settings say {want}",
                        action="`slipway down` first: it cannot be changed under running hosts",
                    )
            subnet = ipaddress.IPv4Network(lab.subnet)
        else:
            taken = network.in_use()
            taken += [
                network.Taken(ipaddress.IPv4Network(other.subnet), f"the lab of {other.state}")
                for other in self.records.all()
            ]
            subnet = network.choose_subnet(settings.hosts.subnet, taken)
        name = lab_name(ctx.state.root)
        addresses = list(subnet.hosts())
        if settings.hosts.workers + 2 > len(addresses):
            raise EnvironmentFault(
                f"subnet {subnet} is too small for {settings.hosts.workers + 1} hosts and a gateway",
                action="choose a larger hosts.subnet",
            )
        others = [other for other in self.records.all() if other.name != name]
        known = {host.name: host for host in lab.hosts} if lab else {}
        names = ["cp", *(f"worker-{number}" for number in range(1, settings.hosts.workers + 1))]
        return Lab(
            name=name,
            token=lab.token if lab else uuid.uuid4().hex,
            state=ctx.state.root.resolve(),
            subnet=str(subnet),
            gateway=str(addresses[0]),
            mtu=lab.mtu if lab else settings.hosts.mtu or network.default_mtu(),
            suite=suite,
            bridge=name,
            forward_chain=f"{name}-forward",
            nat_chain=f"{name}-nat",
            # with another lab up, what this machine had before is in that lab's record
            ip_forward_before=lab.ip_forward_before
            if lab
            else others[0].ip_forward_before
            if others
            else network.IP_FORWARD.read_text().strip(),
            modules_loaded=lab.modules_loaded if lab else (),
            sysctls_before=sysctls.before(
                [*(other.sysctls_before for other in others), lab.sysctls_before if lab else {}]
            ),
            hosts=tuple(
                known.get(host)
                or LabHost(
                    name=host,
                    index=index,
                    address=str(addresses[index]),
                    groups=("control_plane", "docker", "registry") if host == "cp" else ("worker",),
                    machine=f"{name}-{host}",
                    machine_id=uuid.uuid4().hex,
                    netns=f"{name}-{host}",
                    interface=interface_name(name, index),
                    root=Path(),
                    unit=f"{name}-{host}.service",
                )
                for index, host in enumerate(names, 1)
            ),
        )

    def _boot_all(self, ctx: Context, lab: Lab, site: inherit.Site) -> int:
        return sum(_each(lab.hosts, lambda host: self._boot(ctx, lab, host, site)))

    def _boot(self, ctx: Context, lab: Lab, host: LabHost, site: inherit.Site) -> int:
        """Make what the host lacks and boot it unless it runs; 1 when something was to do."""
        folder = ctx.state.hosts.resolve() / host.name  # programs started from here have another cwd
        if self._running(ctx, host):
            if network.attached(lab, host):
                _wait_for_ssh(host, folder / "console.log", lambda: self._ended(ctx, host))
                return 0
            self._end(host)  # it lives in a network that is gone: only a boot gives it a new one
        if not (folder / "made").exists():
            prepare(ctx, lab, host, site)
        if not host.root.is_dir():
            raise HostError(
                f"its root is gone: {host.root}",
                where=host.name,
                action="`slipway down`, then up again: the cache was emptied under this lab",
            )
        network.attach(lab, host)
        launch = Launch(
            machine=host.machine,
            hostname=host.name,
            folder=folder,
            root=host.root,
            netns=host.netns,
            devices=tuple(device for device in DEVICES if Path(device).exists()),
        )
        with (folder / "console.log").open("a") as log:
            log.write("== boot\n")
        try:
            if host.cgroups:
                cgroups.make(host.cgroups)
                (folder / "pid").write_text("")
                process.run(supervised_argv(launch, host.cgroups), where=host.name)
            else:
                process.run(["systemctl", "reset-failed", host.unit], check=False)
                process.run(service_argv(launch, host.unit), where=host.name)
            _wait_for_ssh(host, folder / "console.log", lambda: self._ended(ctx, host))
        except SlipwayError as error:
            raise HostError(
                "it does not boot: " + error.what,
                where=host.name,
                tail=base.tail(folder / "console.log", 20) or error.tail,
                action="read its console log; `slipway down` and up again makes it anew",
                evidence=(folder / "console.log",),
            ) from error
        ctx.emit(Note("booted", host.name))
        return 1

    def _facts(self, ctx: Context, lab: Lab) -> tuple[Host, ...]:
        hosts = [self._host(ctx, host) for host in lab.hosts]
        return base.gather_all(hosts, base.identity(ctx.state))

    def _host(self, ctx: Context, host: LabHost) -> Host:
        public = base.key_pair(ctx.state.ssh, f"host_{host.name}").public
        return Host(host.name, host.address, "root", public, host.groups)

    def _hosts_files(self, hosts: Hosts) -> None:
        """Every host knows every name; written over SSH, for a running host's overlay is its own."""

        def write(host: Host) -> None:
            with ssh.connect(host, hosts.identity) as connection:
                wanted = hosts_file(hosts.hosts)
                if connection.run(["cat", "/etc/hosts"]).stdout != wanted:
                    connection.run(["sh", "-c", "cat >/etc/hosts"], input=wanted)

        _each(hosts.hosts, write)

    # -- down -------------------------------------------------------------------------------------

    def down(self, ctx: Context) -> list[str]:
        """See Backend.down."""
        lab = self.records.find(lab_name(ctx.state.root))
        removed: list[str] = []
        if lab is not None:
            self._need_root()
            if lab.state != ctx.state.root.resolve():
                raise HostError(f"{lab.name} is the lab of {lab.state}, not of this state folder")
            removed = self._take_down(lab)
        hosts = base.recorded(ctx.state)
        if lab is not None or (hosts is not None and hosts.backend == self.name):
            for path in (ctx.state.hosts, ctx.state.ssh):
                if path.is_dir():
                    shutil.rmtree(path)
                    removed.append(f"folder {path}")
        return removed

    def _take_down(self, lab: Lab) -> list[str]:
        """Remove everything the record names but the state folder; then the record."""
        removed: list[str] = []
        for ended in _each(lab.hosts, lambda host: self._end(host, lab)):
            removed += ended
        for host in lab.hosts:
            removed += network.detach(host)
        with self.records.locked():
            removed += network.down(lab)
            others = [other for other in self.records.all() if other.name != lab.name]
            if not others:
                if network.IP_FORWARD.read_text().strip() != lab.ip_forward_before:
                    network.IP_FORWARD.write_text(lab.ip_forward_before + "\n")
                    removed.append(f"net.ipv4.ip_forward, back to {lab.ip_forward_before}")
                removed += [f"{name}, back to what it was" for name in sysctls.put(lab.sysctls_before)]
                if lab.modules_loaded:
                    process.run(
                        ["modprobe", "--remove", "--all", "--quiet", *lab.modules_loaded], check=False
                    )
            else:  # the last one to go puts back what this one found
                for other in others:
                    loaded = tuple(dict.fromkeys([*other.modules_loaded, *lab.modules_loaded]))
                    found = {**lab.sysctls_before, **other.sysctls_before}
                    self.records.write(replace(other, modules_loaded=loaded, sysctls_before=found))
            self.records.remove(lab.name)
        return removed

    def _end(self, host: LabHost, lab: Lab | None = None) -> list[str]:
        """End a host's processes, cgroups and unit; what there was."""
        removed: list[str] = []
        if lab is not None:
            # a supervisor that only now starts finds no such file and ends by itself
            (lab.state / "hosts" / host.name / "pid").unlink(missing_ok=True)
        if host.unit and Path("/run/systemd/system").is_dir():
            known = process.run(
                ["systemctl", "show", "--property=ActiveState", host.unit], check=False
            ).stdout
            if "inactive" not in known and "ActiveState=" in known:
                process.run(["systemctl", "kill", "--kill-whom=all", "--signal=KILL", host.unit], check=False)
                process.run(["systemctl", "stop", host.unit], check=False)
                process.run(["systemctl", "reset-failed", host.unit], check=False)
                removed.append(f"unit {host.unit}")
        if count := cgroups.end(host.cgroups):
            removed.append(f"host {host.name} ({count} processes)")
        for folder in ("propagate", "unix-export", "inaccessible"):
            with suppress(OSError):  # nspawn's own run-time folders; it leaves them when it is killed
                Path(f"/run/systemd/nspawn/{folder}/{host.machine}").rmdir()
        return removed

    def _remove_surplus(self, ctx: Context, before: Lab, lab: Lab) -> int:
        names = {host.name for host in lab.hosts}
        surplus = [host for host in before.hosts if host.name not in names]
        for host in surplus:
            self._end(host, before)
            network.detach(host)
            shutil.rmtree(ctx.state.hosts / host.name, ignore_errors=True)
            for path in ctx.state.ssh.glob(f"host_{host.name}*"):
                path.unlink()
        return len(surplus)

    def _reclaim(self, ctx: Context) -> int:
        """Take down labs whose state folder is gone, or is another one by now."""
        reclaimed = 0
        for lab in self.records.all():
            token = lab.state / "hosts" / "token"
            if not lab.state.is_dir():
                why = "is gone"
            elif token.is_file() and token.read_text().strip() != lab.token:
                why = "was made anew"
            elif lab.state == ctx.state.root.resolve() and not token.is_file() and self._remains(lab):
                why = "was emptied"
            else:
                continue
            self._take_down(lab)
            reclaimed += 1
            ctx.emit(Note(f"reclaimed lab {lab.name} ({lab.subnet}): its state folder {lab.state} {why}"))
        return reclaimed

    def _remains(self, lab: Lab) -> bool:
        return network.link_exists(lab.bridge)

    # -- what is there ----------------------------------------------------------------------------

    def status(self, ctx: Context) -> tuple[HostStatus, ...]:
        """See Backend.status."""
        lab = self._recorded(ctx)
        if lab is None:
            return ()
        found: list[HostStatus] = []
        for host in lab.hosts:
            if not self._running(ctx, host):
                absent = not (ctx.state.hosts / host.name / "made").exists()
                found.append(HostStatus(host.name, host.address, "absent" if absent else "stopped"))
            elif _answers(host.address):
                found.append(HostStatus(host.name, host.address, "running", ", ".join(host.groups)))
            else:
                found.append(HostStatus(host.name, host.address, "unreachable", "no SSH answer"))
        return tuple(found)

    def collect(self, ctx: Context, hosts: Hosts | None) -> tuple[Path, ...]:
        """See Backend.collect."""
        lab = self._recorded(ctx)
        if lab is None:
            return ()
        wanted = {host.name for host in hosts.hosts} if hosts is not None else None
        chosen = [host for host in lab.hosts if wanted is None or host.name in wanted]
        return tuple(
            _each(
                [host for host in chosen if (ctx.state.hosts / host.name).is_dir()],
                lambda host: base.collect_host(
                    ctx,
                    self._host(ctx, host),
                    base.identity(ctx.state),
                    ctx.state.hosts / host.name / "console.log",
                ),
            )
        )

    def _recorded(self, ctx: Context) -> Lab | None:
        lab = self.records.find(lab_name(ctx.state.root))
        return lab if lab is not None and lab.state == ctx.state.root.resolve() else None

    def _to_make(self, ctx: Context, lab: Lab) -> tuple[LabHost, ...]:
        return tuple(host for host in lab.hosts if not (ctx.state.hosts / host.name / "made").exists())

    def _running(self, ctx: Context, host: LabHost) -> bool:
        """Whether the host's supervisor or unit runs and has something in it."""
        if not host.cgroups:
            if not Path("/run/systemd/system").is_dir():
                return False
            return process.run(["systemctl", "is-active", "--quiet", host.unit], check=False).returncode == 0
        return _alive(ctx.state.hosts / host.name / "pid") and len(cgroups.members(host.cgroups)) > 1

    def _ended(self, ctx: Context, host: LabHost) -> bool:
        """Whether the host was started and is no more."""
        if not host.cgroups:
            return not self._running(ctx, host)
        pid_file = ctx.state.hosts / host.name / "pid"
        return pid_file.is_file() and pid_file.read_text() != "" and not _alive(pid_file)

    # -- what this machine must have --------------------------------------------------------------

    def _need_platform(self) -> None:
        if sys.platform != "linux":
            raise EnvironmentFault(
                f"lab hosts need Linux, this is {sys.platform}",
                action="use hosts.backend: ssh with machines that exist, or run slipway in a Linux machine",
            )

    def _need_root(self) -> None:
        if os.geteuid() != 0:
            raise EnvironmentFault(
                "making hosts on this machine needs root",
                action="run it as root (sudo), or use hosts.backend: ssh with machines that exist",
            )

    def _need_free_name(self, lab: Lab, before: Lab | None) -> None:
        other = self.records.find(lab.name)
        if other is not None and other.state != lab.state:
            raise EnvironmentFault(
                f"the name {lab.name} is in use by the lab of {other.state}",
                action="move this state folder: the name follows from its path",
            )
        if before is None and network.link_exists(lab.bridge):
            raise EnvironmentFault(
                f"the interface {lab.bridge} exists, but no lab on record made it",
                action=f"look what it is: `ip link show {lab.bridge}`; remove it or move this state folder",
            )

    def _need_disk(self, ctx: Context, hosts: Iterable[LabHost]) -> None:
        count = len(tuple(hosts))
        if count:
            roots.need_disk(ctx.state.hosts, count * HOST_DISK_BYTES, f"{count} hosts")


def install(packages: Iterable[str], ctx: Context) -> None:
    """Install packages of this machine's distribution by name. Raises EnvironmentFault with apt's words."""
    names = list(packages)
    ctx.emit(Note(f"installing {' '.join(names)}"))
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        process.run(["apt-get", "update", "--quiet"], env=quiet, timeout=600)
        process.run(
            ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *names],
            env=quiet,
            timeout=1800,
        )
    except CommandError as error:
        raise EnvironmentFault(
            f"this machine lacks {' '.join(names)}, and apt cannot install them",
            tail=error.output,
            action="install them by hand, or use hosts.backend: ssh with machines that exist",
        ) from error


def prepare(ctx: Context, lab: Lab, host: LabHost, site: inherit.Site) -> None:
    """Write a host's own files over the shared root; `made` is its last one, so half-made starts anew."""
    folder = ctx.state.hosts / host.name
    if folder.exists():
        shutil.rmtree(folder)
    upper = base.private_folder(folder) / "upper"
    upper.mkdir(mode=0o755)
    for volume in VOLUMES:
        (folder / "volumes" / volume).mkdir(parents=True)
    host_key = base.key_pair(ctx.state.ssh, f"host_{host.name}")
    own = base.key_pair(ctx.state.ssh, base.identity(ctx.state).name)
    others = [Host(other.name, other.address, "root", "", other.groups) for other in lab.hosts]
    files: list[tuple[str, str | bytes, int]] = [
        ("etc/hostname", f"{host.name}\n", 0o644),
        ("etc/hosts", hosts_file(others), 0o644),
        ("etc/machine-id", f"{host.machine_id}\n", 0o444),
        ("etc/resolv.conf", "".join(f"nameserver {server}\n" for server in site.resolvers), 0o644),
        ("etc/ssh/ssh_host_ed25519_key", host_key.private, 0o600),
        ("etc/ssh/ssh_host_ed25519_key.pub", f"{host_key.public}\n", 0o644),
        ("root/.ssh/authorized_keys", f"{own.public} slipway\n", 0o600),
    ]
    release = os.uname().release
    files.append((f"usr/lib/modules/{release}/modules.builtin", builtin_modules(release), 0o644))
    for empty in ("modules.order", "modules.builtin.modinfo"):  # depmod warns without them
        files.append((f"usr/lib/modules/{release}/{empty}", "", 0o644))
    pip = {"cert": "/etc/ssl/certs/ca-certificates.crt", **dict(site.pip)}
    files.append(
        (
            "etc/pip.conf",
            "[global]\n" + "".join(f"{key} = {_ini(value)}\n" for key, value in pip.items()),
            0o644,
        )
    )
    if site.proxies:
        variables = dict(site.proxies)
        variables["no_proxy"] = ",".join(
            dict.fromkeys(
                [
                    *filter(None, variables.get("no_proxy", "").split(",")),
                    "localhost",
                    "127.0.0.1",
                    lab.subnet,
                ]
                + [other.name for other in lab.hosts]
                + [".svc", ".cluster.local", "10.96.0.0/12", "10.244.0.0/16"]
            )
        )
        both = {**variables, **{name.upper(): value for name, value in variables.items()}}
        files.append(
            ("etc/environment", "".join(f'{name}="{value}"\n' for name, value in both.items()), 0o644)
        )
        quoted = " ".join('"' + f"{name}={value}".replace("%", "%%") + '"' for name, value in both.items())
        files.append(
            ("etc/systemd/system.conf.d/10-site.conf", f"[Manager]\nDefaultEnvironment={quoted}\n", 0o644)
        )
    for name, content, mode in files:
        path = upper / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
    (upper / "root").chmod(0o700)
    (upper / "root/.ssh").chmod(0o700)
    (folder / "made").write_text("")


def hosts_file(hosts: Iterable[Host]) -> str:
    """/etc/hosts of a lab host."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "\n".join([*lines, *(f"{host.address} {host.name}" for host in hosts), ""])


def builtin_modules(
    release: str, modules: Path = Path("/lib/modules"), proc: Path = Path("/proc/modules")
) -> str:
    """modules.builtin for hosts: of MODULES, those this machine's kernel has built in or loaded.

    A kernel without a module folder has everything built in.
    """
    names = MODULES
    listed = modules / release / "modules.builtin"
    if listed.is_file():
        have = {Path(line).name.partition(".")[0].replace("-", "_") for line in listed.read_text().split()}
        if proc.is_file():
            have |= {line.split()[0] for line in proc.read_text().splitlines() if line}
        names = tuple(name for name in MODULES if name in have)
    return "".join(f"kernel/lab/{name}.ko\n" for name in names)


def _modules_to_load() -> tuple[str, ...]:
    release = os.uname().release
    if not (Path("/lib/modules") / release / "modules.dep").is_file():
        return ()  # nothing to load from: all there is is built in
    have = {Path(line).stem for line in builtin_modules(release).split()}
    return tuple(name for name in MODULES if name not in have)


def _ini(value: str) -> str:
    return value.replace("\n", "\n  ")


def _alive(pid_file: Path) -> bool:
    """Whether the process a supervisor wrote down (pid and start time) still runs."""
    try:
        pid, started = pid_file.read_text().split()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[19] == started and fields[0] not in "ZX"  # a zombie waits for its parent, not for us
    except (OSError, ValueError, IndexError):
        return False


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def _wait_for_ssh(host: LabHost, console: Path, ended: Callable[[], bool]) -> None:
    """Wait for the host's SSH banner; no longer than the host lives."""

    def attempt() -> None:
        if _answers(host.address):
            return
        last = base.tail(console, 20)
        if ended():
            raise HostError("it ended before SSH answered", where=host.name, tail=last)
        raise Pending(last or "no console output")

    wait_for(
        f"an SSH answer from {host.address}", attempt, timeout=BOOT_SECONDS, interval=0.1, where=host.name
    )


def _each(items: Iterable[T], act: Callable[[T], R]) -> list[R]:
    """`act` on all at once; one error that names every one that failed."""
    found: list[R] = []
    errors: list[SlipwayError] = []
    with ThreadPoolExecutor(max_workers=8) as pool:
        for asked in [pool.submit(act, item) for item in items]:
            try:
                found.append(asked.result())
            except SlipwayError as error:
                errors.append(error)
    if errors:
        raise base.joined(errors)
    return found
