"""The cluster and its hosts as they are: nodes by kubectl, journals over SSH."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slipway.clients import journals
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core.evidence import Reading
from slipway.core.types import Cluster, Host, HostPlay, Node, Registry

UNITS = ("containerd", "kubelet", "docker", "docker-registry", "docker-registry-pull")


def cluster(kubectl: Kubectl, registry: Registry | None, plays: dict[str, HostPlay]) -> Cluster:
    """The cluster a kubeconfig names, without nodes for a user who may not see them.

    Raises KubectlError when it does not answer.
    """
    view = json.loads(kubectl.run(["config", "view", "--minify", "--output", "json"]).stdout)
    return Cluster(
        kubeconfig=kubectl.kubeconfig,
        kubectl=kubectl.binary,
        api=view["clusters"][0]["cluster"]["server"],
        nodes=_nodes(kubectl),
        registry=registry,
        plays=plays,
        context=kubectl.context,
    )


@contextmanager
def contexts_named(kubectl: Kubectl) -> Iterator[None]:
    """Tell which contexts a kubeconfig has where it has not the one that is asked for."""
    try:
        yield
    except KubectlError as error:
        if error.reason == "kubeconfig":
            listed = kubectl.run(["config", "get-contexts", "--output", "name"], check=False)
            if listed.returncode == 0 and (names := listed.stdout.split()):
                error.action = f"set cluster.context to one that {kubectl.kubeconfig} has: {', '.join(names)}"
        raise


def _nodes(kubectl: Kubectl) -> tuple[Node, ...]:
    try:
        return tuple(_node(item) for item in kubectl.get("nodes")["items"])
    except KubectlError as error:
        if error.reason != "denied":  # who may use one namespace sees no nodes, and need not
            raise
        return ()


def _node(item: dict[str, Any]) -> Node:
    addresses = {entry["type"]: entry["address"] for entry in item["status"].get("addresses", [])}
    labels = item["metadata"].get("labels", {})
    return Node(
        name=item["metadata"]["name"],
        address=addresses.get("InternalIP", ""),
        role="control_plane" if "node-role.kubernetes.io/control-plane" in labels else "worker",
        version=item["status"]["nodeInfo"]["kubeletVersion"],
    )


def journal(host: Host) -> Reading:
    """State and last lines of the units provisioning sets up, as evidence.

    The file says why not when the host does not answer.
    """
    return journals.told(
        f"provision/{host.name}.log",
        host,
        ["systemctl", "status", "--no-pager", "--lines=0", *UNITS],
        ["journalctl", "--no-pager", "--lines=800", *(f"--unit={unit}" for unit in UNITS)],
    )
