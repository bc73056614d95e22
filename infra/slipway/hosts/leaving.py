"""Hosts that are about to be removed: what runs on them moves to other nodes first."""

from __future__ import annotations

from collections.abc import Iterable

from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core.context import Context
from slipway.core.events import Note, progress

DRAIN_SECONDS = 90  # a replica's own drain, and the start of the one in its place


def drain(ctx: Context, names: Iterable[str]) -> None:
    """Move the pods off these nodes of the cluster provisioned here, each within DRAIN_SECONDS.

    A host is removed because somebody asked for it: where its pods cannot move, or the cluster does not
    answer, that is said, and they end with it. The Node itself is provisioning's to forget.
    """
    cluster = ctx.state.own_cluster()
    if cluster is None:
        return
    kubectl, known = Kubectl.of(cluster), {node.name for node in cluster.nodes}
    for name in names:
        if name not in known:
            continue
        # --force: pods of no controller end too; emptyDir data is a replica's /tmp
        args = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--force"]
        try:
            with progress(ctx.emit, f"draining node {name}"):
                kubectl.run([*args, f"--timeout={DRAIN_SECONDS}s"], timeout=DRAIN_SECONDS + 10)
        except KubectlError as error:
            why = (error.output.strip().splitlines() or [error.what])[-1]
            ctx.emit(Note(f"node {name} could not be drained, its pods end with its host: {why}"))
