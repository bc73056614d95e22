"""Backend nspawn: hosts made on this machine, each a systemd-nspawn container with its own network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from slipway.clients import ssh
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, HostError, SlipwayError
from slipway.core.events import Note
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.stage import HasBake
from slipway.core.state import write_atomically
from slipway.core.types import Host, Hosts, Outcome
from slipway.hosts import base
from slipway.hosts.base import HostStatus
from slipway.hosts.leaving import drain
from slipway.hosts.nspawn import (
    cgroups,
    controller,
    golden,
    host_files,
    inherit,
    kernel_modules,
    network,
    roots,
    running,
    sysctls,
)
from slipway.hosts.nspawn.design import design
from slipway.hosts.nspawn.labs import Lab, LabHost, Records, lab_name

HOST_DISK_BYTES = 3_000_000_000  # engine, images and Kubernetes on one host
OFF_SECONDS = 30.0


class Nspawn:
    """Hosts on this machine. Needs Linux and root; nothing of them outlives `down`."""

    name = "nspawn"

    def __init__(self, records: Records | None = None, bakers: Sequence[HasBake] = ()) -> None:
        """bakers: what is put into the root before hosts are made from it; without any they are bare."""
        self.records = records or Records()
        self.bakers = bakers

    # -- what would change ------------------------------------------------------------------------

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """See Backend.plan."""
        controller.need_linux()
        return self._to_change(ctx, settings, inherit.site(settings.site, settings.hosts.suite))

    def _to_change(self, ctx: Context, settings: Settings, site: inherit.Site) -> list[str]:
        for line in site.unverified():
            ctx.emit(Note(f"hosts do not verify what this machine does not: {line}"))
        before = self._recorded(ctx)
        lab = self._design(ctx, settings, site, before)
        to_make = _to_make(ctx, lab)
        lines: list[str] = []
        if missing := controller.missing(site):
            lines.append(f"install with apt: {' '.join(missing)}")
        if to_make and not _root(ctx, settings, site).is_dir():
            lines.append(f"make the hosts' root ({site.suite}) in {ctx.cache / 'roots'}")
        if to_make and _golden(settings, self.bakers):
            lines.append(
                f"make hosts from a root with packages, engines and images in it, which is baked in "
                f"{ctx.cache / 'roots'} where there is none yet (hosts.golden: false makes bare ones)"
            )
        if not network.link_exists(lab.bridge):
            lines.append(f"make bridge {lab.bridge} with {lab.gateway} of {lab.subnet}, MTU {lab.mtu}")
        refuse = network.refused(network.addresses())
        if chains := network.to_make(lab, _openings(site, settings, refuse), refuse):
            names = ", ".join(chain.name for chain in chains)
            lines.append(f"write firewall chains {names} (IPv4): {_reach(settings)}")
        if network.IP_FORWARD.read_text().strip() != "1":
            lines.append(
                "turn on net.ipv4.ip_forward for labs alone: what other interfaces would forward to each "
                "other is dropped (put back by down)"
            )
        if modules := kernel_modules.to_load():
            lines.append(
                f"load kernel modules {' '.join(modules)} (unloaded by down where nothing uses them)"
            )
        lines += [f"raise {name} to {value} (put back by down)" for name, value in sysctls.too_low().items()]
        lines += [
            f"make and boot host {host.name} ({host.address}, {', '.join(host.groups)})"
            if host in to_make
            else f"boot host {host.name} ({host.address})"
            for host in lab.hosts
            if not running.is_running(host, _folder(ctx, host))
        ]
        return lines + [f"remove host {host.name}" for host in _surplus(before, lab)]

    # -- up ---------------------------------------------------------------------------------------

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """See Backend.up."""
        controller.need_linux()
        controller.need_root()
        for path in self.records.unreadable():
            if path.stem != lab_name(ctx.state.root):
                ctx.emit(Note(f"the record of another lab cannot be read, it is left alone: {path}"))
        changed = self._reclaim(ctx)
        site = inherit.site(settings.site, settings.hosts.suite)
        for line in self._to_change(ctx, settings, site):
            ctx.emit(Note(line))
        if missing := controller.missing(site):
            controller.install(missing, ctx.emit)
            changed += 1
        before, lab = self._claim(ctx, settings, site)
        if _to_make(ctx, lab):
            root, made = self._make_root(ctx, settings, site)
            changed += made
            lab = _with_root(ctx, lab, root)
        surplus = _surplus(before, lab)
        drain(ctx, [host.name for host in surplus])
        for host in surplus:
            _remove(ctx, host)
            changed += 1
        to_load = kernel_modules.to_load()
        lab = replace(_ready(ctx, lab), modules_loaded=tuple(dict.fromkeys([*lab.modules_loaded, *to_load])))
        self.records.write(lab)  # from here on a kill leaves nothing that is not on record
        kernel_modules.load(to_load)
        changed += len(sysctls.put(sysctls.too_low()))
        with self.records.locked():
            refuse = network.refused(network.addresses())
            changed += network.up(lab, _openings(site, settings, refuse), refuse)
        changed += sum(base.on_each(lab.hosts, lambda host: _boot(ctx, settings, lab, host, site)))
        hosts = Hosts(self.name, tuple(_host(ctx, host) for host in lab.hosts))
        base.on_each(hosts.hosts, base.need_root)
        base.record(ctx.state, hosts)
        host_files.write_hosts_files(hosts)
        summary = f"{len(hosts.hosts)} hosts in {lab.subnet} ({lab.suite}, {lab.bridge})"
        return Outcome(hosts, changed, summary if changed else f"{summary}, unchanged")

    def bake(self, ctx: Context, settings: Settings) -> tuple[Path, int]:
        """The golden root that hosts of these settings are made from, and how much had to be made for it.

        Raises EnvironmentFault where hosts cannot be made, else what baking raises.
        """
        controller.need_linux()
        controller.need_root()
        site = inherit.site(settings.site, settings.hosts.suite)
        if missing := controller.missing(site):
            controller.install(missing, ctx.emit)
        return self._make_root(ctx, settings, site)

    def _make_root(self, ctx: Context, settings: Settings, site: inherit.Site) -> tuple[Path, int]:
        """The root of hosts that are not made yet, and how many had to be made for it."""
        in_use = {host.root for lab in self.records.all() for host in lab.hosts}
        refresh = settings.artifacts.refresh_days
        root, made = roots.ensure(ctx.cache, site, ctx.emit, refresh_days=refresh, in_use=in_use)
        if not _golden(settings, self.bakers):
            return root, int(made)
        recipe = golden.Recipe(root, self.bakers, Nspawn(self.records))
        root, baked = golden.ensure(ctx, settings, recipe, in_use=in_use)
        return root, made + baked

    def power_off(self, ctx: Context) -> list[Path]:
        """Switch the hosts off as machines are, so that what runs there closes its files.

        Returns each host's folder.
        """
        lab, hosts = self._recorded(ctx), ctx.state.kept(Hosts)
        assert lab is not None and hosts is not None  # they were up a moment ago
        for host in hosts.hosts:
            # the connection may end before the word is answered
            with suppress(SlipwayError), ssh.connect(host) as connection:
                connection.run(["systemctl", "poweroff"], check=False, timeout=OFF_SECONDS)
        for made in lab.hosts:
            running.wait_for_end(made, _folder(ctx, made))
        return [_folder(ctx, made) for made in lab.hosts]

    def _claim(self, ctx: Context, settings: Settings, site: inherit.Site) -> tuple[Lab | None, Lab]:
        """The lab as it was recorded and as it shall be.

        From here on its subnet, token and login key are taken.
        """
        with self.records.locked():
            before = self._recorded(ctx)
            # with the root it will take, so that no `slipway clean` removes that meanwhile
            lab = self._design(ctx, settings, site, before)
            if _to_make(ctx, lab):
                lab = _with_root(ctx, lab, _root(ctx, settings, site))
            self._need_free_name(lab, before)
            if count := len(_to_make(ctx, lab)):
                controller.need_disk(ctx.state.hosts, count * HOST_DISK_BYTES, f"{count} hosts")
            if before is None:
                self.records.write(lab)  # the subnet is taken from here on, whatever happens
        base.private_folder(ctx.state.root)
        base.private_folder(ctx.state.hosts)
        write_atomically(ctx.state.hosts / "token", lab.token + "\n")
        base.key_pair(base.private_folder(ctx.state.ssh), base.identity(ctx.state).name)
        return before, lab

    def _design(self, ctx: Context, settings: Settings, site: inherit.Site, made: Lab | None) -> Lab:
        cluster = settings.cluster_networks()
        return design(ctx.state.root, settings.hosts, site.suite, made, self.records.all(), cluster=cluster)

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

    def _reclaim(self, ctx: Context) -> int:
        """Take down labs whose state folder is gone, or is another one by now."""
        reclaimed = 0
        for lab in self.records.all():
            token = lab.state / "hosts" / "token"
            if not lab.state.is_dir():
                why = "is gone"
            elif token.is_file() and token.read_text().strip() != lab.token:
                why = "was made anew"
            elif (
                lab.state == ctx.state.root.resolve()
                and not token.is_file()
                and network.link_exists(lab.bridge)
            ):
                why = "was emptied"
            else:
                continue
            ctx.emit(Note(f"reclaiming lab {lab.name} ({lab.subnet}): its state folder {lab.state} {why}"))
            self._take_down(ctx, lab)
            reclaimed += 1
        return reclaimed

    # -- down -------------------------------------------------------------------------------------

    def down(self, ctx: Context) -> list[str]:
        """See Backend.down."""
        lab = self.records.find(lab_name(ctx.state.root))
        removed: list[str] = []
        if lab is not None:
            controller.need_root()
            if lab.state != ctx.state.root.resolve():
                raise HostError(
                    f"{lab.name} is the lab of {lab.state}, not of this state folder",
                    action="`slipway down` there; if that folder is gone, any `slipway hosts up` reclaims "
                    "the lab",
                )
            removed = self._take_down(ctx, lab)
        hosts = ctx.state.kept(Hosts)
        if lab is not None or (hosts is not None and hosts.backend == self.name):
            for path in (ctx.state.hosts, ctx.state.ssh):
                if path.is_dir():
                    shutil.rmtree(path)
                    removed.append(f"folder {path}")
        return removed

    def _take_down(self, ctx: Context, lab: Lab) -> list[str]:
        """Remove everything the record names but the state folder; then the record."""
        folder = lab.state / "hosts"
        removed: list[str] = []
        for ended in base.on_each(lab.hosts, lambda host: running.end(host, folder / host.name)):
            removed += ended
        for host in lab.hosts:
            removed += network.detach(host)
        with self.records.locked():
            others = [other for other in self.records.all() if other.name != lab.name]
            unknown = [path for path in self.records.unreadable() if path.stem != lab.name]
            if unknown:
                names = ", ".join(map(str, unknown))
                ctx.emit(
                    Note(f"this machine's settings stay as they are for a lab that cannot be read: {names}")
                )
            last = not others and not unknown
            removed += _put_back_forwarding(ctx, lab) if last else []
            removed += network.down(lab)
            removed += _put_back(lab) if last else []
            for other in others:  # the last one to go puts back what this one found
                loaded = tuple(dict.fromkeys([*other.modules_loaded, *lab.modules_loaded]))
                found = {**lab.sysctls_before, **other.sysctls_before}
                self.records.write(replace(other, modules_loaded=loaded, sysctls_before=found))
            self.records.remove(lab.name)
        return removed

    # -- what is there ----------------------------------------------------------------------------

    def status(self, ctx: Context) -> tuple[HostStatus, ...]:
        """See Backend.status."""
        lab = self._recorded(ctx)
        return tuple(_status(ctx, host) for host in lab.hosts) if lab is not None else ()

    def collect(self, ctx: Context, hosts: Hosts | None) -> Sequence[Reading]:
        """See Backend.collect."""
        lab = self._recorded(ctx)
        if lab is None:
            return ()
        wanted = {host.name for host in hosts.hosts} if hosts is not None else None
        chosen = [
            host
            for host in lab.hosts
            if (wanted is None or host.name in wanted) and _folder(ctx, host).is_dir()
        ]

        return [base.host_reading(_host(ctx, host), _folder(ctx, host) / "console.log") for host in chosen]

    def _recorded(self, ctx: Context) -> Lab | None:
        lab = self.records.find(lab_name(ctx.state.root))
        return lab if lab is not None and lab.state == ctx.state.root.resolve() else None


def _folder(ctx: Context, host: LabHost) -> Path:
    """A host's own folder, absolute, because programs started from here have another working directory."""
    return ctx.state.hosts.resolve() / host.name


def _host(ctx: Context, host: LabHost) -> Host:
    public = base.key_pair(ctx.state.ssh, f"host_{host.name}").public
    identity = base.identity(ctx.state)
    return Host(host.name, host.address, "root", public, host.groups, identity=identity)


def _to_make(ctx: Context, lab: Lab) -> tuple[LabHost, ...]:
    return tuple(host for host in lab.hosts if not host_files.prepared(_folder(ctx, host)))


def _surplus(before: Lab | None, lab: Lab) -> list[LabHost]:
    names = {host.name for host in lab.hosts}
    return [host for host in before.hosts if host.name not in names] if before is not None else []


def _root(ctx: Context, settings: Settings, site: inherit.Site) -> Path:
    """The root that hosts not made yet get; it may have to be made first."""
    return roots.path(ctx.cache, site, settings.artifacts.refresh_days)


def _golden(settings: Settings, bakers: Sequence[HasBake]) -> bool:
    return settings.hosts.golden and bool(bakers)


def _with_root(ctx: Context, lab: Lab, root: Path) -> Lab:
    """The lab, with this root assigned to the hosts not made yet."""
    to_make = _to_make(ctx, lab)
    return replace(
        lab, hosts=tuple(replace(host, root=root) if host in to_make else host for host in lab.hosts)
    )


def _ready(ctx: Context, lab: Lab) -> Lab:
    """The lab with the cgroups its stopped hosts will run in.

    End what a crash or a killed `up` left in them.
    """
    hosts: list[LabHost] = []
    for host in lab.hosts:
        if not running.is_running(host, _folder(ctx, host)):
            running.end(host, _folder(ctx, host))  # by its old cgroups, while they are on record
            own = () if controller.runs_systemd() else cgroups.own_folders(host.machine)
            hosts.append(replace(host, cgroups=own))
        else:
            hosts.append(host)
    return replace(lab, hosts=tuple(hosts))


def _openings(site: inherit.Site, settings: Settings, refuse: tuple[str, ...]) -> tuple[network.Opening, ...]:
    """What the lab may reach of the networks it is kept from."""
    registry = inherit.service(settings.image.registry or "")
    needed = inherit.openings([*site.services(), *registry], refuse)
    return (*needed, *(network.Opening(wanted) for wanted in settings.hosts.reach))


def _reach(settings: Settings) -> str:
    listed = ", ".join(settings.hosts.reach)
    private = f"but {listed} and" if listed else "but"
    return (
        "nothing outside reaches the lab; the lab reaches public addresses, and of private networks and "
        f"of this machine nothing {private} its mirrors, proxies, registry and resolvers"
    )


def _boot(ctx: Context, settings: Settings, lab: Lab, host: LabHost, site: inherit.Site) -> int:
    """Make what the host lacks and boot it unless it runs. Returns 1 if there was something to do."""
    folder = _folder(ctx, host)
    if running.is_running(host, folder):
        if network.attached(lab, host):
            running.wait_for_ssh(host, folder)
            return 0
        running.end(host, folder)  # it lives in a network that is gone: only a boot gives it a new one
    if not host_files.prepared(folder):
        host_files.prepare(ctx, settings, lab, host, site)
    if not host.root.is_dir():
        raise HostError(
            f"its root is gone: {host.root}",
            where=host.name,
            action="`slipway down`, then up again: the cache was emptied under this lab",
        )
    network.attach(lab, host)
    if unkept := running.start(host, folder):
        ctx.emit(Note(f"it can open every device of this machine, disks too: {unkept}", host.name))
    ctx.emit(Note("booted", host.name))
    return 1


def _remove(ctx: Context, host: LabHost) -> None:
    """Remove one host, its network and its keys."""
    running.end(host, _folder(ctx, host))
    network.detach(host)
    shutil.rmtree(_folder(ctx, host), ignore_errors=True)
    for path in ctx.state.ssh.glob(f"host_{host.name}*"):
        path.unlink()


def _put_back_forwarding(ctx: Context, lab: Lab) -> list[str]:
    """Turn forwarding off again, unless somebody else set it or needs it meanwhile. Returns what was changed.

    To be done while the lab's chains still keep this machine from being a router.
    """
    if not network.turned_on_forwarding(lab):
        return []
    if others := network.newcomers(lab):
        ctx.emit(
            Note(
                f"net.ipv4.ip_forward stays on: {', '.join(others)} came meanwhile and may need it; from now "
                "on this machine forwards for its other interfaces too, as its firewall allows "
                "(`sysctl -w net.ipv4.ip_forward=0` turns it off)"
            )
        )
        return []
    network.IP_FORWARD.write_text("0\n")
    return ["net.ipv4.ip_forward, back to 0"]


def _put_back(lab: Lab) -> list[str]:
    """Put this machine's other settings back to what they were before its first lab.

    What somebody has set anew or needs meanwhile stays. Returns what was changed.
    """
    removed = [f"{name}, back to what it was" for name in sysctls.put_back(lab.sysctls_before)]
    # nothing counts who uses br_netfilter: an engine that came meanwhile found it loaded
    kept = {"br_netfilter"} if "br_netfilter" in lab.modules_loaded and network.newcomers(lab) else set()
    kernel_modules.unload(name for name in lab.modules_loaded if name not in kept)
    return removed


def _status(ctx: Context, host: LabHost) -> HostStatus:
    folder = _folder(ctx, host)
    if not running.is_running(host, folder):
        state = "stopped" if host_files.prepared(folder) else "absent"
        return HostStatus(host.name, host.address, state)
    if running.answers(host.address):
        return HostStatus(host.name, host.address, "running", ", ".join(host.groups))
    return HostStatus(host.name, host.address, "unreachable", "no SSH answer")
