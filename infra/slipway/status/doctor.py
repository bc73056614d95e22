"""Checks of this machine before anything is changed: what is there, what is missing, how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.clients import nodes
from slipway.clients.kubectl import Kubectl
from slipway.core import extras
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, SlipwayError
from slipway.core.schema import HostsSettings, Settings
from slipway.core.types import Cluster, Hosts
from slipway.hosts.nspawn import inherit
from slipway.hosts.nspawn.backend import HOST_DISK_BYTES
from slipway.provision.variables import EVICTED_BELOW
from slipway.status import certificates, packages

CACHE_BYTES = (
    3_000_000_000  # Kubernetes, host roots, wheels: 2.0 GB after a whole run, and room to make one anew
)
STATE_BYTES = 1_000_000_000  # models, image contexts and reports of runs, beside what hosts take


@dataclass(frozen=True)
class Check:
    """One finding.

    needed: without it the chain, as it is set, cannot run. cost: what is to be done without, or waited for,
    where it is absent and not needed. faulty: it is there, and not well.
    """

    name: str
    ok: bool
    needed: bool
    found: str
    action: str = ""
    cost: str = ""
    faulty: bool = False

    def line(self) -> str:
        """The finding for people, with what it costs and what to do where it is not well."""
        bad = "faulty" if self.faulty else "missing" if self.needed else "absent"
        mark = f"{'ok' if self.ok else bad:<7}"
        more = [] if self.ok else ["" if self.needed else self.cost, self.action]
        return f"{mark}  {self.name:<16} " + "; ".join(part for part in (self.found, *more) if part)


def examine(ctx: Context, settings: Settings) -> list[Check]:
    """Every check that matters under these settings; nothing is changed or downloaded."""
    own_hosts = packages.makes_hosts(settings)
    checks: list[Callable[[], Check]] = [
        _python,
        lambda: _system(own_hosts),
        lambda: _root(own_hosts),
        lambda: _space("disk for state", ctx.state.root, _wanted(ctx, settings, own_hosts)),
        lambda: _space("disk for cache", ctx.cache, _wanted(ctx, settings, own_hosts)),
        lambda: _program(
            "ssh",
            needed=settings.cluster.kubeconfig is None,
            cost="no host can be entered or provisioned, only the cluster brought along be used",
            action="`slipway setup` installs openssh-client",
        ),
        lambda: _packages(settings, own_hosts),
        *([lambda: _verification(settings)] if own_hosts else []),
        *_of_machines(settings.hosts),
        lambda: _training(settings),
        lambda: _models(settings),
        lambda: _program(
            "go",
            needed=False,
            cost="what source modules builds waits for a toolchain, which is fetched once",
        ),
        lambda: _program(
            "pulumi",
            needed=False,
            cost=(
                "deploy.by: engine gets it first, and builds it for minutes where there is no release"
                if any(one.deploy.by == "engine" for _, one in settings.each())
                else "deployed with kubectl instead, so there is no state, preview or stack of Pulumi's"
            ),
            action="https://www.pulumi.com/docs/iac/download-install/",
        ),
        _cgroups,
        *([_boundary] if own_hosts else []),
    ]
    cluster = ctx.state.kept(Cluster)
    if cluster is not None:
        checks += [lambda: _nodes(cluster), lambda: _certificates(ctx)]
    return [check() for check in checks]


def _python() -> Check:
    return Check(
        "python", sys.version_info >= (3, 11), True, platform.python_version(), "Python 3.11 or newer"
    )


def _system(needed: bool) -> Check:
    return Check(
        "system",
        platform.system() == "Linux",
        needed,
        f"{platform.system()} {platform.release()} {platform.machine()}",
        "nspawn hosts need Linux; use hosts.backend: ssh",
        cost="no hosts can be made on this machine",
    )


def _root(needed: bool) -> Check:
    root = os.geteuid() == 0
    return Check(
        "root",
        root,
        needed,
        "yes" if root else "no",
        "run as root (nspawn hosts need it), or use hosts.backend: ssh",
        cost="no hosts can be made on this machine",
    )


def _wanted(ctx: Context, settings: Settings, own_hosts: bool) -> dict[Path, int]:
    """Folder -> bytes that must be free there: what a run still puts there, and what keeps pods running."""
    if not own_hosts:
        return {ctx.state.root: STATE_BYTES, ctx.cache: CACHE_BYTES}
    known = ctx.state.kept(Hosts)
    made = len(known.hosts) if known is not None else 0
    to_make = max(0, settings.hosts.workers + settings.hosts.model_servers + 1 - made) * HOST_DISK_BYTES
    return {ctx.state.root: STATE_BYTES + to_make + EVICTED_BELOW, ctx.cache: 0 if made else CACHE_BYTES}


def _space(name: str, folder: Path, wanted: Mapping[Path, int]) -> Check:
    """Whether the disk has room for everything that goes there. Folders on one disk are added up."""
    there = _existing(folder)
    needed = sum(
        size for other, size in wanted.items() if _existing(other).stat().st_dev == there.stat().st_dev
    )
    free = shutil.disk_usage(there).free
    return Check(
        name,
        free >= needed,
        True,
        f"{free / 1e9:.0f} GB free at {there}",
        f"{needed / 1e9:.0f} GB are needed (below {EVICTED_BELOW / 1e9:.1f} GB a lab's kubelets evict every "
        "pod): free some, or move it (the cache by SLIPWAY_CACHE)",
    )


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _program(name: str, *, needed: bool, cost: str, action: str = "") -> Check:
    found = shutil.which(name)
    return Check(name, found is not None, needed, found or "not on PATH", action, cost)


def _of_machines(hosts: HostsSettings) -> list[Callable[[], Check]]:
    """What machines of Vagrant, or in a cloud, need here."""
    if hosts.backend == "vagrant":
        cost = "the machines of the Vagrantfile cannot be asked for"
        action = "https://developer.hashicorp.com/vagrant/install"
        return [lambda: _program("vagrant", needed=True, cost=cost, action=action)]
    cloud = hosts.cloud
    if cloud is None or cloud == "here":
        return []
    missing = extras.missing(cloud)
    found = f"the extra `{cloud}` is {'not installed' if missing else 'there'}"
    cost = "no machines can be made or changed there"
    return [lambda: Check("cloud", not missing, True, found, extras.command(cloud), cost)]


def _packages(settings: Settings, own_hosts: bool) -> Check:
    """The packages of this machine's distribution that hosts and images are made with."""
    try:
        missing = packages.missing(settings)
    except EnvironmentFault as error:
        return Check("packages", False, own_hosts, error.what, error.action)
    action = f"`slipway setup` installs {'it' if len(missing) == 1 else 'them'}"
    if own_hosts:
        action += ", and so does `slipway up`"
    cost = (
        "the first `slipway up` takes some minutes more"
        if own_hosts
        else "images of source modules cannot be made on this machine"
    )
    return Check("packages", not missing, False, " ".join(missing) or "all there", action, cost)


def _verification(settings: Settings) -> Check:
    """Whether hosts will verify what they fetch: they take over what this machine has switched off."""
    try:
        found = inherit.site(settings.site, settings.hosts.suite).unverified()
    except EnvironmentFault:
        return Check("verification", True, False, "no site to take over")  # `packages` says why
    return Check(
        "verification",
        not found,
        False,
        "; ".join(found) or "hosts verify packages and servers",
        "switch it on here, or name another mirror in site.apt_mirror",
        "hosts do not verify it either",
        faulty=True,
    )


def _training(settings: Settings) -> Check:
    """Whether a model can be trained, exported, saved and restored here."""
    missing = extras.missing("train")
    found = (
        f"the extra `train` is not installed ({', '.join(missing)})"
        if missing
        else "the extra `train` is there"
    )
    cost = "no model can be trained or exported, saved or restored here; model.path brings one"
    needed = any(one.model.path is None for _, one in settings.each())
    return Check("training", not missing, needed, found, extras.command("train"), cost)


def _models(settings: Settings) -> Check:
    """Whether models can be fetched from addresses, and their signatures checked."""
    each = [one.model for _, one in settings.each()]
    fetched = any(isinstance(one.path, str) and not one.path.startswith("oci://") for one in each)
    wanted: dict[extras.Extra, bool] = {
        "remote": fetched,
        "signatures": any(one.signature is not None for one in each),
    }
    absent = [extra for extra in wanted if extras.missing(extra)]
    # what is needed first: one command is told
    absent.sort(key=lambda extra: not wanted[extra])
    found = " and ".join(f"`{extra}`" for extra in absent)
    return Check(
        "models from elsewhere",
        not absent,
        any(wanted[extra] for extra in absent),
        f"the extras {found} are not installed"
        if absent
        else "the extras `remote` and `signatures` are there",
        extras.command(absent[0]) if absent else "",
        "model.path takes folders and oci:// only"
        if "remote" in absent
        else "no model's signature is checked",
    )


def _nodes(cluster: Cluster) -> Check:
    """Whether every node takes pods, as far as the cluster answers."""
    try:
        found = nodes.troubles(Kubectl.of(cluster).get("nodes", timeout=10)["items"])
    except SlipwayError as error:
        return Check(
            "nodes", False, False, f"the cluster does not answer: {error.what}", error.action, faulty=True
        )
    acute = [trouble for trouble in found if trouble.acute]
    return Check(
        "nodes",
        not acute,
        False,
        "; ".join(trouble.sentence for trouble in found) or "every node takes pods",
        "; or ".join(nodes.actions(acute)),
        "what runs there may be evicted, and nothing new is placed there",
        faulty=True,
    )


def _certificates(ctx: Context) -> Check:
    """Whether a certificate of the cluster or registry, or a key of apt ends soon, or is not the pinned one.

    A host that is off is no fault here.
    """
    found, _errors = certificates.endings(ctx)
    now = certificates.now()
    by_end = sorted(found, key=lambda ending: (not ending.problem, ending.ends))
    soon = [ending for ending in by_end if ending.soon(now)]
    told = [f"{ending.name} of {ending.host} {ending.left(now)}" for ending in (soon or by_end)[:1]]
    return Check(
        "certificates",
        not soon,
        any(ending.ends <= now for ending in soon),
        told[0] if told else "no host tells",
        soon[0].soon(now) if soon else "",
        faulty=True,
    )


def _boundary() -> Check:
    """What hosts made here are not; there is nothing to do about it but to know."""
    return Check(
        "lab hosts", True, False, "no security boundary: root in one of them is root on this machine"
    )


def _cgroups() -> Check:
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return Check(
        "cgroups", Path("/sys/fs/cgroup").is_dir(), False, "v2" if unified else "v1", "mount /sys/fs/cgroup"
    )
