"""Settings, hosts and artifacts -> variables of the roles. The mapping between their names is here alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slipway.artifacts import KubernetesArtifacts
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.schema import Settings
from slipway.core.types import Hosts, Registry

# A host made here sees the disk of this machine, whose fullness says nothing of the lab: a share of it, the
# kubelet's own measure, is tens of gigabytes on a large disk, and below that every pod is evicted for good.
# Signals that are not named keep the kubelet's own, so all of them are here. Inodes do not count (0% is off):
# a share of them is as much this machine's affair, and of a number btrfs would fall short, which tells 0
# free.
EVICTED_BELOW = 1 << 30  # bytes
_SHARED_DISK: dict[str, object] = {
    "kubernetes_node_eviction_hard": {
        "memory.available": "100Mi",
        "nodefs.available": f"{EVICTED_BELOW >> 30}Gi",
        "nodefs.inodesFree": "0%",
        "imagefs.available": f"{EVICTED_BELOW >> 30}Gi",
        "imagefs.inodesFree": "0%",
    },
    "kubernetes_node_image_gc_percent": 100,
}


def wanted(settings: Settings, hosts: Hosts) -> Hosts:
    """The hosts with the groups whose layers are set up here: beside an existing registry none is."""
    if settings.image.registry is None:
        return hosts
    return replace(
        hosts,
        hosts=tuple(
            replace(host, groups=tuple(group for group in host.groups if group != "registry"))
            for host in hosts.hosts
        ),
    )


def need_wanted(settings: Settings, hosts: Hosts) -> None:
    """Raise UsageError where the user's inventory asks for a layer that is not wanted."""
    if hosts.inventory is not None and settings.image.registry is not None and hosts.group("registry"):
        raise UsageError(
            f"image.registry brings a registry ({settings.image.registry}), and the inventory has a group "
            "registry, in which one is set up",
            where=str(hosts.inventory),
            action="take the hosts out of that group, or call it something else",
        )


def for_all(
    ctx: Context,
    settings: Settings,
    hosts: Hosts,
    found: KubernetesArtifacts,
    login: Registry | None,
    *,
    containerd: Path | None = None,
) -> dict[str, object]:
    """Variables of every host. A default of a role is passed on only when someone set it.

    containerd: folder with the programs that `cluster.containerd_source: files` brings along.
    """
    out: dict[str, object] = {
        "kube_version": found.version,
        "kubernetes_node_source": "files",
        "kubernetes_node_binaries": str(found.binaries.absolute()),
        "kubernetes_node_sandbox_image": found.sandbox_image,
        "control_plane_kubeconfig_path": str(ctx.state.kubeconfig.absolute()),
        "cni_flannel_image": found.flannel_image,
        "network_policy_image": found.network_policy_image,
        "metrics_server_image": found.metrics_server_image,
    }
    if found.source == "modules":  # flannel built here takes what it needs from its surroundings
        out["cni_flannel_args"] = []
    if hosts.made or settings.hosts.cloud == "here":
        out |= _SHARED_DISK
    if login is not None and login.pull is None:  # of its own registry the role finds the address
        out["registry_address"] = login.address
    if login is not None:
        out |= {
            "registry_username": login.username or "",
            "registry_password_file": str(login.password_file.absolute()) if login.password_file else "",
            "registry_ca_file": str(login.ca_file.absolute()) if login.ca_file else "",
        }
    if login is not None and login.pull is not None:
        out |= {
            "registry_pull_username": login.pull.username,
            "registry_pull_password_file": str(login.pull.password_file.absolute()),
        }
    if containerd is not None:
        out["kubernetes_node_containerd_binaries"] = str(containerd.absolute())
    asked = {
        "kubernetes_node_containerd_source": settings.cluster.containerd_source,
        "control_plane_pod_subnet": settings.cluster.pod_subnet,
        "control_plane_service_subnet": settings.cluster.service_subnet,
        "network_policy_enabled": settings.cluster.network_policy,
        "metrics_server_enabled": settings.cluster.metrics_server,
        "docker_source": settings.docker.source,
    }
    return out | {name: value for name, value in asked.items() if value is not None}


def for_groups(found: KubernetesArtifacts) -> dict[str, dict[str, object]]:
    """Variables that differ by group: workers need fewer images."""
    return {
        "control_plane": {"kubernetes_node_images": [str(path.absolute()) for path in found.images]},
        "worker": {"kubernetes_node_images": [str(path.absolute()) for path in found.worker_images]},
    }
