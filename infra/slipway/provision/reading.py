"""The cluster and its hosts as they are: nodes by kubectl, journals over SSH."""

from __future__ import annotations

import json
from typing import Any

from slipway.clients import ssh
from slipway.clients.kubectl import Kubectl
from slipway.core.errors import SlipwayError
from slipway.core.evidence import Reading
from slipway.core.types import Cluster, Host, HostPlay, Node, Registry

UNITS = ("containerd", "kubelet", "docker", "docker-registry", "docker-registry-pull")


def cluster(kubectl: Kubectl, registry: Registry | None, plays: dict[str, HostPlay]) -> Cluster:
    """The cluster a kubeconfig names. Raises KubectlError when it does not answer."""
    view = json.loads(kubectl.run(["config", "view", "--minify", "--output", "json"]).stdout)
    return Cluster(
        kubeconfig=kubectl.kubeconfig,
        kubectl=kubectl.binary,
        api=view["clusters"][0]["cluster"]["server"],
        nodes=tuple(_node(item) for item in kubectl.get("nodes")["items"]),
        registry=registry,
        plays=plays,
        context=kubectl.context,
    )


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
    commands = (
        ["systemctl", "status", "--no-pager", "--lines=0", *UNITS],
        ["journalctl", "--no-pager", "--lines=800", *(f"--unit={unit}" for unit in UNITS)],
    )

    def read(seconds: float) -> str:
        try:
            with ssh.connect(host, timeout=seconds) as connection:
                said = [connection.run(words, timeout=seconds, check=False) for words in commands]
        except SlipwayError as error:
            return "\n".join([*error.lines(), ""])
        return "\n".join([*(done.output for done in said), ""])

    return Reading(f"provision/{host.name}.log", read)
