"""Settings, hosts and artifacts -> variables of the roles. The mapping between their names is here alone."""

from __future__ import annotations

from dataclasses import replace

from infra.artifacts import KubernetesArtifacts
from infra.core.context import Context
from infra.core.schema import Settings
from infra.core.types import Hosts, Registry


def wanted(settings: Settings, hosts: Hosts) -> Hosts:
    """The hosts with the groups whose layers are wanted: beside an existing registry none is set up."""
    if settings.image.registry is None:
        return hosts
    return replace(
        hosts,
        hosts=tuple(
            replace(host, groups=tuple(group for group in host.groups if group != "registry"))
            for host in hosts.hosts
        ),
    )


def for_all(
    ctx: Context, settings: Settings, found: KubernetesArtifacts, login: Registry | None
) -> dict[str, object]:
    """Variables of every host. A default of a role is passed on only when someone set it."""
    out: dict[str, object] = {
        "kube_version": found.version,
        "kubernetes_node_source": "files",
        "kubernetes_node_binaries": str(found.binaries.absolute()),
        "kubernetes_node_sandbox_image": found.sandbox_image,
        "control_plane_kubeconfig_path": str(ctx.state.kubeconfig.absolute()),
        "cni_flannel_image": found.flannel_image,
    }
    if found.source == "modules":  # flannel built here takes what it needs from its surroundings
        out["cni_flannel_args"] = []
    if login is not None:
        out |= {
            "registry_address": login.address,
            "registry_username": login.username or "",
            "registry_password_file": str(login.password_file.absolute()) if login.password_file else "",
            "registry_ca_file": str(login.ca_file.absolute()) if login.ca_file else "",
        }
    asked = {
        "control_plane_pod_subnet": settings.cluster.pod_subnet,
        "control_plane_service_subnet": settings.cluster.service_subnet,
        "docker_source": settings.docker.source,
    }
    return out | {name: value for name, value in asked.items() if value is not None}


def for_groups(found: KubernetesArtifacts) -> dict[str, dict[str, object]]:
    """Variables that differ by group: workers need fewer images."""
    return {
        "control_plane": {"kubernetes_node_images": [str(path.absolute()) for path in found.images]},
        "worker": {"kubernetes_node_images": [str(path.absolute()) for path in found.worker_images]},
    }
