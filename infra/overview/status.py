"""What runs now, asked from the real things: the backend about hosts, kubectl about the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from infra.backends import made_here
from infra.clients.kubectl import Kubectl, why_not_ready
from infra.core.context import Context
from infra.core.errors import SlipwayError
from infra.core.schema import Settings
from infra.core.types import Cluster, Endpoints
from infra.pipeline import saved_value
from stacks import outputs

Rows = list[dict[str, str]]


def status_of(ctx: Context, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """(document, lines) about hosts, nodes, replicas and the last run; nothing is changed."""
    document: dict[str, Any] = {
        "hosts": [asdict(host) for host in made_here(ctx).status(ctx)],
        "nodes": [],
        "replicas": [],
        "last_run": _last_run(ctx),
    }
    cluster, endpoints = saved_value(ctx, Cluster), saved_value(ctx, Endpoints)
    if isinstance(cluster, Cluster):
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, settings.cluster.context)
        document["nodes"] = _ask(lambda: _nodes(kubectl))
        if isinstance(endpoints, Endpoints):
            document["replicas"] = _ask(lambda: _replicas(kubectl, endpoints))
    lines = []
    for kind in ("hosts", "nodes", "replicas"):
        rows = document[kind]
        lines.append(f"{kind}:" if rows else f"{kind}: none")
        lines += [
            f"  {row['name']:<40} {row['state']}" + (f": {row['detail']}" if row.get("detail") else "")
            for row in rows
        ]
    last = document["last_run"]
    lines.append(f"last run: {last['outcome']} ({last['when']})" if last else "last run: none")
    return document, lines


def _ask(question: Callable[[], Rows]) -> Rows:
    try:
        return question()
    except SlipwayError as error:
        return [{"name": "cluster", "state": f"does not answer: {error.what}"}]


def _nodes(kubectl: Kubectl) -> Rows:
    out = []
    for node in kubectl.get("nodes")["items"]:
        status = node["status"]
        ready = {item["type"]: item for item in status["conditions"]}.get("Ready", {})
        state = "Ready" if ready.get("status") == "True" else f"not ready: {ready.get('message', 'unknown')}"
        out.append(
            {"name": node["metadata"]["name"], "state": f"{state}, {status['nodeInfo']['kubeletVersion']}"}
        )
    return out


def _replicas(kubectl: Kubectl, endpoints: Endpoints) -> Rows:
    selector = ",".join(f"{key}={value}" for key, value in outputs.SELECTOR.items())
    out = []
    for pod in kubectl.get("pods", namespace=endpoints.namespace, selector=selector)["items"]:
        reason = why_not_ready(pod)
        state = f"not ready: {reason}" if reason else "ready"
        out.append(
            {"name": pod["metadata"]["name"], "state": f"{state} on {pod['spec'].get('nodeName', 'no node')}"}
        )
    return out


def _last_run(ctx: Context) -> dict[str, str] | None:
    latest = ctx.state.runs / "latest"
    try:
        document = json.loads((latest / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    failed = [stage["name"] for stage in document["stages"] if stage["status"] == "failed"]
    return {
        "when": latest.resolve().name,
        "outcome": "ok" if document["ok"] else f"failed at {', '.join(failed) or 'no stage: nothing ran'}",
    }
