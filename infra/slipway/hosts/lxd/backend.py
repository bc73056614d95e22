"""Backend lxd: hosts that are system containers of an LXD, in a project of their own."""

from __future__ import annotations

import getpass
import ipaddress
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipway.clients import ssh
from slipway.clients.lxc import Lxc
from slipway.core.context import Context
from slipway.core.errors import HostError, SlipwayError, UsageError
from slipway.core.events import Note, progress
from slipway.core.evidence import Reading
from slipway.core.retry import wait_for
from slipway.core.schema import Settings
from slipway.core.stage import HasBake
from slipway.core.state import write_atomically
from slipway.core.types import Host, Hosts, Outcome, dump, load
from slipway.hosts import base
from slipway.hosts.base import HostStatus
from slipway.hosts.leaving import drain
from slipway.hosts.lxd import image
from slipway.hosts.lxd.design import (
    DEVICES,
    MADE,
    OWNER,
    STATE,
    SYSCTLS,
    Bridge,
    LxdHost,
    design,
    profile,
    raw,
)
from slipway.hosts.naming import groups, names
from slipway.hosts.nspawn import host_files, inherit
from slipway.hosts.nspawn.backend import Nspawn
from slipway.hosts.nspawn.labs import lab_name
from slipway.hosts.nspawn.sysctls import AT_LEAST
from slipway.hosts.resolving import hosts_of

ALIAS = "host"  # of the image, in a project that is the lab's own
BOOT_SECONDS = 60.0


class Lxd:
    """Hosts in LXD, on this machine or on the inventory's host of group lxd, in a project of their own."""

    name = "lxd"

    def __init__(self, bakers: Sequence[HasBake] = ()) -> None:
        """bakers: what is put into the root before it becomes an image; without any it is bare."""
        self._roots = Nspawn(bakers=bakers)

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """See Backend.plan."""
        with _lxd(settings) as lxc:
            return _to_change(ctx, settings, lxc)

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """See Backend.up."""
        base.private_folder(ctx.state.root)
        base.private_folder(ctx.state.hosts)
        with _lxd(settings) as lxc:
            for line in _to_change(ctx, settings, lxc):
                ctx.emit(Note(line))
            write_atomically(_record(ctx), dump(lxc.connection.host), 0o600)
            changed = _reclaim(ctx, lxc) + _claim(ctx, lxc)
            own, bridge = lxc.of(_project(ctx)), _bridge(lxc)
            there = _hosts(own)
            surplus = [name for name in there if name not in names(settings.hosts)]
            drain(ctx, surplus)
            for name in surplus:
                _delete(own, _instance(own, name))
            site = inherit.site(settings.site, settings.hosts.suite)
            hosts = design(settings.hosts, bridge, there)
            place = host_files.Place(hosts, str(bridge.address.network), site)
            to_make = [host for host in hosts if host.name not in there]
            if to_make:
                changed += self._image(ctx, settings, own)
            base.private_folder(ctx.state.ssh)
            for host in to_make:  # one after the other: each unpacks the image
                with progress(ctx.emit, f"container {host.name}"):
                    _make(own, host, raw(host, bridge), host_files.own(ctx, settings, host, place))
            changed += len(surplus) + len(to_make) + sum(base.on_each(hosts, lambda host: _start(own, host)))
        value = Hosts(self.name, tuple(_reached(ctx, host) for host in hosts))
        base.on_each(value.hosts, lambda host: _answers(host, bridge))
        base.record(ctx.state, value)
        host_files.write_hosts_files(value)
        summary = f"{len(hosts)} containers of LXD on {lxc.connection.host.name}, in {bridge.address.network}"
        return Outcome(value, changed, summary if changed else f"{summary}, unchanged")

    def _image(self, ctx: Context, settings: Settings, own: Lxc) -> int:
        """Have the image in the project. Returns how much had to be made for it."""
        if own.find("images", "aliases", ALIAS) is not None:
            return 0
        root, made = self._roots.bake(ctx, settings)
        with (
            progress(ctx.emit, "LXD's image of the hosts' root"),
            tempfile.TemporaryDirectory(prefix=".image-", dir=ctx.state.hosts) as held,
        ):
            file = Path(held) / "image.tar"
            image.write(root, file, Path(held))
            own.import_image(file, ALIAS)
        return made + 1

    def down(self, ctx: Context) -> list[str]:
        """See Backend.down."""
        if not _record(ctx).is_file():
            return []
        with ssh.connect(load(Host, _record(ctx).read_bytes())) as connection:
            removed = _take_away(Lxc(connection), _project(ctx))
        for path in (ctx.state.hosts, ctx.state.ssh):
            if path.is_dir():
                shutil.rmtree(path)
                removed.append(f"folder {path}")
        return removed

    def status(self, ctx: Context) -> tuple[HostStatus, ...]:
        """See Backend.status."""
        if not _record(ctx).is_file():
            return ()
        with ssh.connect(load(Host, _record(ctx).read_bytes())) as connection:
            own = Lxc(connection, _project(ctx))
            return tuple(
                HostStatus(
                    host.name, host.address, _state(own, _instance(own, host.name)), ", ".join(host.groups)
                )
                for host in _hosts(own).values()
            )

    def collect(self, ctx: Context, hosts: Hosts | None) -> Sequence[Reading]:
        """See Backend.collect."""
        known = hosts or ctx.state.kept(Hosts)
        return [base.host_reading(host) for host in known.hosts] if known is not None else ()


def _to_change(ctx: Context, settings: Settings, lxc: Lxc) -> list[str]:
    """A line for each thing that `up` would change; changes nothing."""
    there = _hosts(lxc.of(_project(ctx)))
    hosts = design(settings.hosts, _bridge(lxc), there)
    on = f"of LXD on {lxc.connection.host.name}"
    lines = [] if there else [f"make project {_project(ctx)} {on}, with an image and a profile"]
    lines += [f"raise {name} to {AT_LEAST[name]} there (put back by down)" for name in _too_low(lxc)]
    lines += [
        f"make and start container {host.name} ({host.address}, {', '.join(host.groups)})"
        for host in hosts
        if host.name not in there
    ]
    return lines + [f"remove container {name}" for name in there if name not in names(settings.hosts)]


@contextmanager
def _lxd(settings: Settings) -> Iterator[Lxc]:
    """The LXD of these settings, reached. Raises HostError where there is none."""
    with ssh.connect(_where(settings)) as connection:
        lxc = Lxc(connection)
        lxc.get()
        yield lxc


def _where(settings: Settings) -> Host:
    """The machine with LXD: the only host of group lxd in the inventory, or this one without an inventory."""
    if settings.hosts.inventory is None:
        return Host("this machine", "localhost", getpass.getuser(), "", ("lxd",), connection="local")
    path = settings.hosts.inventory
    found = [host for host in hosts_of(path) if "lxd" in host.groups]
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} hosts of {settings.hosts.inventory} are in group lxd, expected one",
            where="hosts.inventory",
            action="name the machine whose LXD makes the hosts, or leave it out for this machine's",
        )
    return found[0]


def _project(ctx: Context) -> str:
    """The lab's own project, named after its state folder."""
    return lab_name(ctx.state.root)


def _record(ctx: Context) -> Path:
    """Where it is kept on which machine the project is."""
    return ctx.state.hosts / "lxd.json"


def _bridge(lxc: Lxc) -> Bridge:
    """The network of LXD's default profile. Raises HostError where it has none with IPv4 addresses."""
    cards = [one for one in _default_devices(lxc).values() if one.get("type") == "nic" and one.get("network")]
    name = cards[0]["network"] if cards else ""
    network = lxc.get("networks", name) if name else {"config": {}}
    address = network["config"].get("ipv4.address", "none")
    if address == "none":
        raise HostError(
            f"LXD's default profile has no bridge with IPv4 addresses on {lxc.connection.host.name}",
            action="`ansible-playbook playbooks/lxd.yml` configures one (lxd_bridge_ipv4)",
        )
    leases = {lease["address"] for lease in lxc.get("networks", name, "leases")}
    others = {
        line.partition("=")[2].partition("/")[0].strip()
        for instance in lxc.get("instances", recursion="1", **{"all-projects": "true"})
        for line in instance["config"].get("raw.lxc", "").splitlines()
        if line.startswith("lxc.net.0.ipv4.address")
    }
    return Bridge(name, ipaddress.IPv4Interface(address), frozenset(leases | others))


def _default_devices(lxc: Lxc) -> dict[str, dict[str, str]]:
    devices: dict[str, dict[str, str]] = lxc.get("profiles", "default")["devices"]
    return devices


def _pool(lxc: Lxc) -> str:
    """The storage pool of LXD's default profile."""
    roots = [one["pool"] for one in _default_devices(lxc).values() if one.get("path") == "/"]
    if not roots:
        raise HostError(
            f"LXD's default profile has no storage pool on {lxc.connection.host.name}",
            action="`ansible-playbook playbooks/lxd.yml` configures one (lxd_storage_pool)",
        )
    return roots[0]


def _hosts(own: Lxc) -> dict[str, LxdHost]:
    """The containers of the project that were made to their end."""
    if own.find("projects", own.project) is None:
        return {}
    out = {}
    for instance in own.get("instances", recursion="1"):
        if made := instance["config"].get(MADE):
            told = json.loads(made)
            name = instance["name"].removeprefix(_instance(own, ""))
            out[name] = LxdHost(name, told["address"], groups(name), told["machine_id"])
    return out


def _claim(ctx: Context, lxc: Lxc) -> int:
    """Have the project with its profile, and the kernel as hosts need it. Returns what was changed."""
    project, changed = _project(ctx), 0
    if lxc.find("projects", project) is None:
        config = {
            "features.images": "true",
            "features.profiles": "true",
            "features.storage.volumes": "true",
            STATE: str(ctx.state.root.resolve()),
            OWNER: _this_machine(),
            SYSCTLS: json.dumps(_before(lxc)),
        }
        lxc.send("POST", "projects", body={"name": project, "config": config})
        changed += 1
    own, devices = lxc.of(project), _there(lxc)
    wanted = profile(_pool(lxc), _bridge(lxc), devices)
    found = own.get("profiles", "default")
    if {key: found[key] for key in wanted} != wanted:
        own.send("PUT", "profiles", "default", body=wanted)
        changed += 1
    for name, value in _too_low(lxc).items():
        lxc.connection.run(["sysctl", "-q", "-w", f"{name}={value}"], timeout=10)
        changed += 1
    return changed


def _there(lxc: Lxc) -> list[str]:
    done = lxc.connection.run(["ls", "-d", *DEVICES], check=False, timeout=10)
    return [path for path in DEVICES if path in done.stdout.split()]


def _sysctls(lxc: Lxc, wanted: Sequence[str]) -> dict[str, str]:
    """Settings of the kernel there, those that it has."""
    done = lxc.connection.run(["sysctl", "-e", *wanted], check=False, timeout=10)
    lines = (line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    return {name: value for name, value in lines if name in wanted}


def _too_low(lxc: Lxc) -> dict[str, int]:
    found = _sysctls(lxc, tuple(AT_LEAST))
    return {name: least for name, least in AT_LEAST.items() if int(found.get(name, least)) < least}


def _before(lxc: Lxc) -> dict[str, str]:
    """What the kernel's settings were before the first lab there, which every lab keeps."""
    for project in lxc.get("projects", recursion="1"):
        if SYSCTLS in project["config"]:
            found: dict[str, str] = json.loads(project["config"][SYSCTLS])
            return found
    return _sysctls(lxc, tuple(AT_LEAST))


def _instance(own: Lxc, host: str) -> str:
    """What LXD calls a host: on one bridge no two may have a name, whatever their projects."""
    return f"{own.project}-{host}"


def _make(own: Lxc, host: LxdHost, words: str, files: Sequence[host_files.File]) -> None:
    """Make a container with its own files. That it was made is what is written last."""
    name = _instance(own, host.name)
    if own.find("instances", name) is not None:  # half made, by a run that was killed
        _delete(own, name)
    own.send(
        "POST",
        "instances",
        body={
            "name": name,
            "source": {"type": "image", "alias": ALIAS},
            "config": {"raw.lxc": words},
        },
    )
    for file in files:
        own.write(name, file.name, file.content, file.mode)
    made = json.dumps({"address": host.address, "machine_id": host.machine_id})
    own.send("PATCH", "instances", name, body={"config": {MADE: made}})


def _state(own: Lxc, name: str) -> str:
    return str(own.get("instances", name)["status"]).lower()


def _start(own: Lxc, host: LxdHost) -> int:
    """Start a container that does not run. Returns 1 if there was something to do."""
    name = _instance(own, host.name)
    if _state(own, name) == "running":
        return 0
    own.send("PUT", "instances", name, "state", body={"action": "start", "timeout": 30})
    return 1


def _delete(own: Lxc, name: str) -> None:
    if _state(own, name) != "stopped":
        own.send("PUT", "instances", name, "state", body={"action": "stop", "force": True, "timeout": 30})
    own.send("DELETE", "instances", name)


def _reached(ctx: Context, host: LxdHost) -> Host:
    public = base.key_pair(ctx.state.ssh, f"host_{host.name}").public
    return Host(host.name, host.address, "root", public, host.groups, identity=base.identity(ctx.state))


def _answers(host: Host, bridge: Bridge) -> None:
    """Wait for a container's SSH. Raises HostError that tells of the way there."""
    try:
        wait_for(
            "an answer over SSH",
            lambda: base.need_root(host),
            timeout=BOOT_SECONDS,
            retry_on=(ssh.Unreachable,),
            where=host.name,
        )
    except SlipwayError as error:
        if not error.action:
            error.action = (
                f"this machine must reach {bridge.address.network}; where LXD is on another one, by a route "
                f"over it: ip route add {bridge.address.network} via ADDRESS"
            )
        raise


def _this_machine() -> str:
    """What tells this machine from others that have a state folder of the same name."""
    file = Path("/etc/machine-id")
    return file.read_text().strip() if file.is_file() else ""


def _reclaim(ctx: Context, lxc: Lxc) -> int:
    """Take away the projects of this machine's labs whose state folder is gone."""
    reclaimed = 0
    for project in lxc.get("projects", recursion="1"):
        config: Mapping[str, Any] = project["config"]
        if config.get(OWNER) == _this_machine() and STATE in config and not Path(config[STATE]).is_dir():
            ctx.emit(Note(f"reclaiming project {project['name']}: its state folder {config[STATE]} is gone"))
            reclaimed += bool(_take_away(lxc, project["name"]))
    return reclaimed


def _take_away(lxc: Lxc, project: str) -> list[str]:
    """Remove a project with all in it, and put the kernel's settings back. Returns what was removed."""
    found = lxc.find("projects", project)
    if found is None:
        return []
    own = lxc.of(project)
    removed = []
    for instance in own.get("instances", recursion="1"):
        _delete(own, instance["name"])
        removed.append(f"container {instance['name']} of LXD on {lxc.connection.host.name}")
    for one in own.get("images", recursion="1"):
        own.send("DELETE", "images", one["fingerprint"])
    before = json.loads(found["config"].get(SYSCTLS, "{}"))
    lxc.send("DELETE", "projects", project)
    others = any(SYSCTLS in one["config"] for one in lxc.get("projects", recursion="1"))
    if not others:  # what was before the first lab is put back by the last one
        now = _sysctls(lxc, tuple(before))
        for name, value in before.items():
            if now.get(name) != value:
                lxc.connection.run(["sysctl", "-q", "-w", f"{name}={value}"], timeout=10)
                removed.append(f"{name}, back to {value}")
    return [*removed, f"project {project} of LXD on {lxc.connection.host.name}"]
