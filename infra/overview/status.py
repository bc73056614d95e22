"""What runs now, asked from the real things: hosts over SSH, the cluster through kubectl."""

from __future__ import annotations

import json
from typing import Any

from infra.clients import ssh
from infra.clients.kubectl import Kubectl
from infra.core.context import Context
from infra.core.errors import SlipwayError
from infra.core.schema import Settings
from infra.core.types import Cluster, Endpoints, Hosts
from infra.pipeline import saved_value


def status_of(ctx: Context, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """(document, lines) about hosts, nodes, replicas and the last run; nothing is changed."""
    document: dict[str, Any] = {
        "hosts": _hosts(saved_value(ctx, Hosts)),
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
        lines.append(f"{kind}: {'none' if not rows else ''}".rstrip())
        lines += [f"  {row['name']:<40} {row['state']}" for row in rows]
    last = document["last_run"]
    lines.append(f"last run: {last['outcome']} ({last['when']})" if last else "last run: none")
    return document, lines


def _hosts(hosts: Hosts | None) -> list[dict[str, str]]:
    out = []
    for host in hosts.hosts if hosts else ():
        try:
            with ssh.connect(host, hosts.identity if hosts else None) as connection:
                connection.run(["true"], timeout=5)
            state = "reachable"
        except SlipwayError as error:
            state = f"not reachable: {error.what}"
        out.append({"name": host.name, "address": host.address, "state": state})
    return out


def _ask(question: Any) -> list[dict[str, str]]:
    try:
        answer: list[dict[str, str]] = question()
    except SlipwayError as error:
        return [{"name": "cluster", "state": f"does not answer: {error.what}"}]
    return answer


def _nodes(kubectl: Kubectl) -> list[dict[str, str]]:
    out = []
    for node in kubectl.get("nodes")["items"]:
        ready = next((c for c in node["status"]["conditions"] if c["type"] == "Ready"), {"status": "Unknown"})
        state = "Ready" if ready["status"] == "True" else f"not ready: {ready.get('message', '')}"
        out.append(
            {
                "name": node["metadata"]["name"],
                "state": f"{state}, {node['status']['nodeInfo']['kubeletVersion']}",
            }
        )
    return out


def _replicas(kubectl: Kubectl, endpoints: Endpoints) -> list[dict[str, str]]:
    pods = kubectl.get("pods", namespace=endpoints.namespace, selector="app=mnist-server")["items"]
    out = []
    for pod in pods:
        ready = (
            all(c["ready"] for c in pod["status"].get("containerStatuses", []))
            and pod["status"]["phase"] == "Running"
        )
        state = "ready" if ready else pod["status"]["phase"]
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
        "outcome": "ok" if document["ok"] else f"failed at {', '.join(failed)}",
    }
