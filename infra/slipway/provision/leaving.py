"""Nodes whose hosts are gone: the cluster is told to forget them, or every later run waits for them."""

from __future__ import annotations

from typing import Any

from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core.context import Context
from slipway.core.errors import Timeout
from slipway.core.events import Note
from slipway.core.retry import wait_for
from slipway.core.types import Hosts

ANSWER_SECONDS = 60.0  # an API server whose host was booted a moment ago


def forget_nodes(ctx: Context, hosts: Hosts) -> int:
    """Delete the Nodes of the last cluster that are no host of this run. Returns how many there were.

    Machines of an inventory belong to somebody: one that was taken out of it keeps its Node while it is
    ready. A cluster that does not answer is the play's to mend, and this the next run's.
    """
    cluster = ctx.state.own_cluster()
    before = {node.name for node in cluster.nodes} if cluster is not None else set()
    gone = sorted(before - {host.name for host in hosts.hosts})
    # none of them known by its name: these are no nodes of an inventory that was provisioned here
    if cluster is None or not gone or len(gone) == len(before):
        return 0
    kubectl = Kubectl.of(cluster)
    try:
        there = wait_for(
            "an answer of the cluster",
            lambda: kubectl.get("nodes")["items"],
            timeout=ANSWER_SECONDS,
            retry_on=(KubectlError,),
        )
        found = {item["metadata"]["name"]: item for item in there}
        leaving = [name for name in gone if name in found and (hosts.made or not _is_ready(found[name]))]
        for name in leaving:
            kubectl.run(["delete", "node", name, "--ignore-not-found"])
            ctx.emit(Note(f"node {name} is gone with its host: the cluster has forgotten it"))
    except (KubectlError, Timeout) as error:
        ctx.emit(
            Note(f"nodes without hosts ({', '.join(gone)}) stay until the cluster answers: {error.what}")
        )
        return 0
    return len(leaving)


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
