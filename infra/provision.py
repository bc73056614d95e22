"""Stage provision: from hosts that answer SSH to a Kubernetes cluster with Docker and a registry."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import Any, ClassVar

from infra import artifacts
from infra.backends import base
from infra.clients import ansible_play, ssh
from infra.clients.ansible_play import Played
from infra.clients.kubectl import Kubectl
from infra.core.context import Context
from infra.core.errors import ProvisionError, SlipwayError
from infra.core.schema import Settings
from infra.core.state import write_atomically
from infra.core.types import Cluster, Hosts, Node, Outcome, Registry

REGISTRY_PORT = 5000
REGISTRY_USER = "slipway"
UNITS = ("containerd", "kubelet", "docker", "docker-registry")


class Provision:
    """Hosts -> Cluster. A failed task leaves the hosts as they are; the next run goes on from there."""

    title: ClassVar[str] = "Provision"

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
        _link(kubectl, ctx.state.bin / "kubectl")
        cluster = _cluster(
            Kubectl(kubectl, settings.cluster.kubeconfig, settings.cluster.context),
            _registry(ctx, settings, None),
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
        played = play(ctx, settings, hosts)
        if not hosts.group("control_plane"):
            raise ProvisionError(
                "no host is in group control_plane, so there is no cluster",
                action="put one host of hosts.inventory into group control_plane",
            )
        kubectl = Kubectl((ctx.state.bin / "kubectl").resolve(), ctx.state.kubeconfig)
        cluster = _cluster(kubectl, _registry(ctx, settings, hosts), played)
        versions = ", ".join(sorted({node.version for node in cluster.nodes}))
        text = f"{len(cluster.nodes)} nodes ready on {versions}, {played.changed} tasks changed"
        return Outcome(cluster, played.changed, text)

    def collect(self, ctx: Context) -> tuple[Path, ...]:
        """Journals of the units this stage sets up, from every host."""
        hosts = base.recorded(ctx.state)
        return tuple(_journals(ctx, hosts, index) for index in range(len(hosts.hosts))) if hosts else ()


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
    _link(found.kubectl, ctx.state.bin / "kubectl")
    password = ctx.state.registry / "password"
    if not password.is_file():
        write_atomically(password, secrets.token_urlsafe(24) + "\n", 0o600)
    registry = _registry(ctx, settings, hosts)
    variables: dict[str, object] = {
        "kube_version": found.version,
        "kubernetes_node_source": "files",
        "kubernetes_node_binaries": str(found.binaries.absolute()),
        "kubernetes_node_sandbox_image": found.sandbox_image,
        "control_plane_kubeconfig_path": str(ctx.state.kubeconfig.absolute()),
        "cni_flannel_image": found.flannel_image,
    }
    if found.source == "modules":  # flannel built here takes what it needs from its surroundings
        variables["cni_flannel_args"] = []
    if registry is not None:
        variables |= {
            "registry_address": registry.address,
            "registry_username": registry.username or "",
            "registry_password_file": str(registry.password_file.absolute())
            if registry.password_file
            else "",
            "registry_ca_file": str(registry.ca_file.absolute()) if registry.ca_file else "",
        }
    asked = {
        "control_plane_pod_subnet": settings.cluster.pod_subnet,
        "control_plane_service_subnet": settings.cluster.service_subnet,
        "docker_source": settings.docker.source,
    }
    variables |= {name: value for name, value in asked.items() if value is not None}
    groups = {
        "control_plane": {"kubernetes_node_images": [str(path.absolute()) for path in found.images]},
        "worker": {"kubernetes_node_images": [str(path.absolute()) for path in found.worker_images]},
    }
    if settings.image.registry is not None:  # the layer is not wanted, only trust in theirs
        hosts = _without(hosts, "registry")
    text = ansible_play.inventory(hosts, base.known_hosts(ctx.state), variables, groups)
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


def _without(hosts: Hosts, group: str) -> Hosts:
    from dataclasses import replace

    return replace(
        hosts,
        hosts=tuple(
            replace(host, groups=tuple(name for name in host.groups if name != group)) for host in hosts.hosts
        ),
    )


def _registry(ctx: Context, settings: Settings, hosts: Hosts | None) -> Registry | None:
    """The user's registry, else the lab's own, else none."""
    image = settings.image
    if image.registry is not None:
        return Registry(image.registry, image.username, image.password_file, image.ca_file)
    own = hosts.group("registry") if hosts else ()
    if not own:
        return None
    kept = ctx.state.registry
    return Registry(f"{own[0].address}:{REGISTRY_PORT}", REGISTRY_USER, kept / "password", kept / "ca.crt")


def _cluster(kubectl: Kubectl, registry: Registry | None, played: Played | None = None) -> Cluster:
    view = json.loads(kubectl.run(["config", "view", "--minify", "--output", "json"]).stdout)
    nodes = kubectl.get("nodes")["items"]
    return Cluster(
        kubeconfig=kubectl.kubeconfig,
        kubectl=kubectl.binary,
        api=view["clusters"][0]["cluster"]["server"],
        nodes=tuple(_node(item) for item in nodes),
        registry=registry,
        plays=played.hosts if played else {},
    )


def _node(item: dict[str, Any]) -> Node:
    addresses = {entry["type"]: entry["address"] for entry in item["status"]["addresses"]}
    labels = item["metadata"].get("labels", {})
    return Node(
        name=item["metadata"]["name"],
        address=addresses.get("InternalIP", ""),
        role="control_plane" if "node-role.kubernetes.io/control-plane" in labels else "worker",
        version=item["status"]["nodeInfo"]["kubeletVersion"],
    )


def _link(target: Path, link: Path) -> None:
    """`slipway env` puts the folder of `link` on PATH."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.readlink() == target.absolute():
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target.absolute())


def _journals(ctx: Context, hosts: Hosts, index: int) -> Path:
    host = hosts.hosts[index]
    units = [f"--unit={unit}" for unit in UNITS]
    try:
        with ssh.connect(host, hosts.identity, timeout=5) as connection:
            text = connection.run(
                ["systemctl", "status", "--no-pager", "--lines=0", *UNITS], timeout=30, check=False
            ).stdout
            text += connection.run(
                ["journalctl", "--no-pager", "--lines=800", *units], timeout=30, check=False
            ).stdout
    except SlipwayError as error:
        text = "\n".join(error.lines())
    path = ctx.evidence(f"provision/{host.name}.log")
    path.write_text(text + "\n", errors="replace")
    return path
