"""Stage 3: from hosts that answer SSH to a Kubernetes cluster with Docker and a registry."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import ClassVar

from infra import artifacts
from infra.backends import base
from infra.clients import ansible_play
from infra.clients.ansible_play import Played
from infra.clients.kubectl import Kubectl
from infra.cluster import reading, registry, variables
from infra.core.context import Context
from infra.core.errors import ProvisionError
from infra.core.schema import Settings
from infra.core.state import link_atomically, write_atomically
from infra.core.types import Cluster, Hosts, Outcome


class Provision:
    """Hosts -> Cluster. A failed task leaves the hosts as they are; the next run goes on from there."""

    title: ClassVar[str] = "Bring the hosts to a Kubernetes cluster"

    def should_run(self, settings: Settings) -> str:
        """Not wanted for an existing cluster."""
        if settings.cluster.kubeconfig is not None:
            return f"cluster.kubeconfig brings an existing cluster ({settings.cluster.kubeconfig})"
        return ""

    def provided(self, ctx: Context, settings: Settings) -> Outcome[Cluster]:
        """The cluster the user brought along. Raises KubectlError when it does not answer."""
        assert settings.cluster.kubeconfig is not None  # should_run said so
        found = shutil.which("kubectl")
        kubectl = Path(found) if found else artifacts.kubernetes(ctx, settings).kubectl
        link_atomically(ctx.state.bin / "kubectl", kubectl)
        cluster = reading.cluster(
            Kubectl(kubectl, settings.cluster.kubeconfig, settings.cluster.context),
            registry.provided(ctx, settings, None),
            {},
        )
        return Outcome(cluster, 0, f"{cluster.api}, {len(cluster.nodes)} nodes, brought along")

    def plan(self, ctx: Context, settings: Settings, hosts: Hosts | None) -> list[str]:
        """Ansible's own dry run; one line per task that would change a host."""
        if hosts is None or not hosts.hosts:
            return [
                "what provisioning changes cannot be known before there are hosts: every layer, most likely"
            ]
        played = play(ctx, settings, hosts, check=True)
        return [
            f"{change.host}: {change.task}" + (f" ({change.subject})" if change.subject else "")
            for change in played.changes
        ]

    def run(self, ctx: Context, settings: Settings, hosts: Hosts) -> Outcome[Cluster]:
        """Run site.yml and read the cluster. Raises ProvisionError with host, task and log."""
        if not hosts.group("control_plane"):
            raise ProvisionError(
                "no host is in group control_plane, so there is no cluster",
                action="put one host of hosts.inventory into group control_plane",
            )
        played = play(ctx, settings, hosts)
        kubectl = Kubectl((ctx.state.bin / "kubectl").resolve(), ctx.state.kubeconfig)
        cluster = reading.cluster(kubectl, registry.provided(ctx, settings, hosts), played.hosts)
        versions = ", ".join(sorted({node.version for node in cluster.nodes}))
        text = f"{len(cluster.nodes)} nodes ready on {versions}, {played.changed} tasks changed"
        return Outcome(cluster, played.changed, text)

    def collect(self, ctx: Context) -> tuple[Path, ...]:
        """Journals of the units this stage sets up, from every host."""
        hosts = base.recorded(ctx.state)
        out = []
        identity = hosts.identity if hosts else None
        for host in hosts.hosts if hosts else ():
            path = ctx.evidence(f"provision/{host.name}.log")
            path.write_text(reading.journal(host, identity) + "\n", errors="replace")
            out.append(path)
        return tuple(out)


def play(
    ctx: Context,
    settings: Settings,
    hosts: Hosts,
    *,
    check: bool = False,
    diff: bool = False,
    tags: str = "",
    limit: str = "",
) -> Played:
    """Write the inventory, secrets and client that site.yml and people need, then run site.yml.

    check changes no host; the inventory is written all the same, since the dry run reads it.
    """
    found = artifacts.kubernetes(ctx, settings)
    link_atomically(ctx.state.bin / "kubectl", found.kubectl)
    password = ctx.state.registry / "password"
    if not password.is_file():
        write_atomically(password, secrets.token_urlsafe(24) + "\n", 0o600)
    text = ansible_play.inventory(
        variables.wanted(settings, hosts),
        base.known_hosts(ctx.state),
        variables.for_all(ctx, settings, found, registry.provided(ctx, settings, hosts)),
        variables.for_groups(found),
    )
    write_atomically(ctx.state.inventory, text, 0o600)
    return ansible_play.play(
        ctx.project / "playbooks" / "site.yml",
        ctx.state.inventory,
        ctx.evidence("site-check.log" if check else "site.log"),
        check=check,
        diff=diff,
        tags=tags,
        limit=limit,
        emit=ctx.emit,
    )
