"""From hosts that answer SSH to a Kubernetes cluster with Docker and a registry."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from slipway import artifacts
from slipway.artifacts.cache import digest_of, sha256_of
from slipway.clients import hosts_play
from slipway.clients.ansible_play import Played
from slipway.clients.kubectl import Kubectl
from slipway.core import registries
from slipway.core.context import Context
from slipway.core.errors import ProvisionError
from slipway.core.events import Note
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.state import link_atomically, write_atomically
from slipway.core.types import Cluster, Hosts, Outcome
from slipway.provision import baking, reading, variables
from slipway.provision.leaving import forget_nodes


class Provision:
    """Hosts -> Cluster. A failed task leaves the hosts as they are; the next run goes on from there."""

    title: ClassVar[str] = "Provision the cluster"

    def should_run(self, settings: Settings) -> str:
        """Not wanted for an existing cluster."""
        if settings.cluster.kubeconfig is not None:
            return f"cluster.kubeconfig brings an existing cluster ({settings.cluster.kubeconfig})"
        return ""

    def provided(self, ctx: Context, settings: Settings) -> Outcome[Cluster]:
        """The cluster the user brought along. Raises KubectlError when it does not answer as it has to."""
        assert settings.cluster.kubeconfig is not None  # should_run said so
        found = shutil.which("kubectl")
        kubectl = Path(found) if found else artifacts.kubernetes(ctx, settings).kubectl
        link_atomically(ctx.state.bin / "kubectl", kubectl)
        client = Kubectl(kubectl, settings.cluster.kubeconfig, settings.cluster.context)
        with reading.contexts_named(client):
            cluster = reading.cluster(client, registries.provided(ctx, settings, None), {})
        seen = f"{len(cluster.nodes)} nodes" if cluster.nodes else "whose nodes this login may not see"
        return Outcome(cluster, 0, f"{cluster.api}, {seen}, brought along")

    def plan(self, ctx: Context, settings: Settings, hosts: Hosts | None) -> list[str]:
        """Ansible's own dry run; one line per task that would change a host."""
        if hosts is None or not hosts.hosts:
            return [
                "what provisioning changes cannot be known before there are hosts: every layer, most likely"
            ]
        played = play(ctx, settings, hosts, check=True)
        return [change.line for change in played.changes]

    def run(self, ctx: Context, settings: Settings, hosts: Hosts) -> Outcome[Cluster]:
        """Run site.yml and read the cluster. Raises ProvisionError with host, task and log."""
        if not hosts.group("control_plane"):
            raise ProvisionError(
                "no host is in group control_plane, so there is no cluster",
                action="put one host of hosts.inventory into group control_plane",
            )
        for warning in open_to_the_internet(hosts):
            ctx.emit(Note(warning))
        forgotten = forget_nodes(ctx, hosts)
        played = play(ctx, settings, hosts)
        kubectl = Kubectl((ctx.state.bin / "kubectl").resolve(), ctx.state.kubeconfig)
        if upgrade := played.told.get("slipway_upgrade"):
            ctx.emit(
                Note(
                    f"upgraded from Kubernetes {upgrade['from']} to {upgrade['to']}; what was before is kept "
                    f"on the control plane in {upgrade['snapshot']} (docs/cluster.md says how to go back)"
                )
            )
        registry = registries.as_told(
            registries.provided(ctx, settings, hosts), played.told.get("slipway_registry", {})
        )
        cluster = reading.cluster(kubectl, registry, played.hosts)
        versions = ", ".join(sorted({node.version for node in cluster.nodes}))
        text = f"{len(cluster.nodes)} nodes ready on {versions}, {played.changed} tasks changed"
        return Outcome(cluster, played.changed + forgotten, text)

    def bake_key(self, ctx: Context, settings: Settings) -> str:
        """Programs, images, the roles that install them, and where Docker comes from."""
        found = artifacts.kubernetes(ctx, settings)
        programs = sorted(path for path in found.binaries.iterdir() if path.is_file())
        made_of = [sha256_of(path) for path in (*programs, *found.images)]
        brought = containerd_of(ctx, settings)
        made_of += [sha256_of(path) for path in sorted(brought.iterdir())] if brought else []
        return digest_of(
            baking.recipe(ctx.project / "playbooks"), found.version, str(settings.docker.source), *made_of
        )

    def bake(self, ctx: Context, settings: Settings, hosts: Hosts) -> None:
        """Install packages, programs and images. Raises ProvisionError with task and log."""
        play(ctx, settings, hosts, playbook="bake")

    def collect(self, ctx: Context) -> Sequence[Reading]:
        """Journals of the units this stage sets up, from every host."""
        hosts = ctx.state.kept(Hosts)
        return [reading.journal(host) for host in hosts.hosts] if hosts else []


def open_to_the_internet(hosts: Hosts) -> list[str]:
    """A line that names the hosts with public addresses; an address that is a name tells nothing.

    Those that slipway made in a cloud have a firewall around them.
    """
    if hosts.backend == "pulumi":
        return []
    public = []
    for host in hosts.hosts:
        with contextlib.suppress(ValueError):
            public += [host.name] if ipaddress.ip_address(host.address).is_global else []
    if not public:
        return []
    return [
        f"{', '.join(public)}: public addresses, and slipway sets no firewall; let 8472/udp, 10250/tcp and "
        "5000/tcp in from the cluster's own machines alone (docs/cluster.md lists every port)"
    ]


def containerd_of(ctx: Context, settings: Settings) -> Path | None:
    """Folder with the containerd that is brought along; None where it comes from packages."""
    return artifacts.containerd(ctx, settings) if settings.cluster.containerd_source == "files" else None


def play(
    ctx: Context,
    settings: Settings,
    hosts: Hosts,
    *,
    playbook: str = "site",
    check: bool = False,
    diff: bool = False,
    tags: str = "",
    limit: str = "",
) -> Played:
    """Write the inventory, secrets and client that playbooks and people need, then run a playbook.

    check changes no host; the inventory is written all the same, since the dry run reads it.
    """
    found = artifacts.kubernetes(ctx, settings)
    link_atomically(ctx.state.bin / "kubectl", found.kubectl)
    for name in ("password", "pull-password"):
        if not (ctx.state.registry / name).is_file():
            write_atomically(ctx.state.registry / name, secrets.token_urlsafe(24) + "\n", 0o600)
    shared = variables.for_all(
        ctx,
        settings,
        hosts,
        found,
        registries.provided(ctx, settings, hosts),
        containerd=containerd_of(ctx, settings),
    )
    cluster = ctx.state.own_cluster()
    if limit and cluster is not None and cluster.registry is not None:
        # the role finds it by the facts of all hosts, which it has not then
        shared["registry_address"] = cluster.registry.address
    variables.need_wanted(settings, hosts)
    return hosts_play.play(
        ctx.project / "playbooks" / f"{playbook}.yml",
        variables.wanted(settings, hosts),
        hosts_play.Given(ctx.state.inventory, ctx.state.known_hosts, shared, variables.for_groups(found)),
        log=ctx.evidence(f"{playbook}-check.log" if check else f"{playbook}.log"),
        # a model server waits for its model: that is stage serve's
        asked=hosts_play.Asked(check, diff, tags, "model_server", limit),
        emit=ctx.emit,
    )
