"""What runs now, asked from the real things: the backend about hosts, kubectl about the cluster."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from slipway.clients import nodes
from slipway.clients.kubectl import Kubectl
from slipway.clients.openpgp import NEVER
from slipway.clients.pod_watch import every
from slipway.clients.pods import why_not_ready
from slipway.core.context import Context
from slipway.core.errors import SlipwayError
from slipway.core.types import Cluster, Endpoints, label_of
from slipway.hosts.backends import made_here
from slipway.status import certificates

Rows = list[dict[str, str]]
EACH = 50  # of a kind; more are not told one by one, but in the document
_FINE = ("ready", "Ready")


def status_of(ctx: Context) -> tuple[dict[str, Any], list[str]]:
    """(document, lines) about hosts, nodes, replicas and the last run; nothing is changed."""
    document: dict[str, Any] = {
        "hosts": [asdict(host) for host in made_here(ctx).status(ctx)],
        "nodes": [],
        "replicas": [],
        "certificates": [],
        "last_run": _last_run(ctx),
    }
    cluster = ctx.state.kept(Cluster)
    if cluster is not None:
        kubectl = Kubectl.of(cluster)
        document["nodes"] = _ask(lambda: _nodes(kubectl))
        document["certificates"] = _certificates(ctx)
        for name in ("", *ctx.state.kept_models):
            if (endpoints := ctx.state.of(name).kept(Endpoints)) is not None:
                document["replicas"] += _ask(partial(_replicas, kubectl, endpoints, name))
    lines = []
    for kind in ("hosts", "nodes", "replicas", "certificates"):
        rows = document[kind]
        lines.append(f"{kind}:" if rows else f"{kind}: none")
        lines += [f"  {line}" for line in _lines(rows)]
    last = document["last_run"]
    lines.append(f"last run: {last['outcome']} ({last['when']})" if last else "last run: none")
    return document, lines


def _lines(rows: Rows) -> list[str]:
    """A line for each; of many that are as they should be one for all, with how many they are."""
    out = []
    fine: Counter[str] = Counter()
    for row in rows:
        if len(rows) > EACH and row["state"].startswith(_FINE) and not row.get("detail"):
            fine[row["state"].partition(" on ")[0]] += 1
        else:
            detail = f": {row['detail']}" if row.get("detail") else ""
            out.append(f"{_called(row):<40} {row['state']}{detail}")
    return [*(f"{f'{count} of {len(rows)}':<40} {state}" for state, count in fine.most_common()), *out]


def _called(row: dict[str, str]) -> str:
    return f"{row['model']}: {row['name']}" if "model" in row else row["name"]


def _ask(question: Callable[[], Rows]) -> Rows:
    try:
        return question()
    except SlipwayError as error:
        return [{"name": "cluster", "state": f"does not answer: {error.what}"}]


def _nodes(kubectl: Kubectl) -> Rows:
    out = []
    for node in kubectl.get("nodes")["items"]:
        found = nodes.troubles([node])
        words = [word for trouble in found for word in trouble.words]
        unready = any(trouble.unready for trouble in found)
        parts = [*([] if unready else ["Ready"]), *words, node["status"]["nodeInfo"]["kubeletVersion"]]
        row = {"name": node["metadata"]["name"], "state": ", ".join(parts)}
        out.append({**row, "detail": "; or ".join(nodes.actions(found))})
    return out


def _replicas(kubectl: Kubectl, endpoints: Endpoints, model: str) -> Rows:
    """The pods of a deployment. model: whose it is, where there are several."""
    whose = {"model": model} if model else {}
    deployment = kubectl.find("deployment", endpoints.deployment, namespace=endpoints.namespace)
    if deployment is None:
        return [{**whose, "name": endpoints.deployment, "state": "gone"}]
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    out = []
    for pod in every(kubectl, endpoints.namespace, selector):
        reason = why_not_ready(pod)
        state = f"not ready: {reason}" if reason else "ready"
        place = pod["spec"].get("nodeName", "no node")
        out.append({**whose, "name": pod["metadata"]["name"], "state": f"{state} on {place}"})
    return out


def _certificates(ctx: Context) -> Rows:
    """Of each host's certificates those that end first, its apt keys, and which hosts do not tell."""
    found, errors = certificates.endings(ctx)
    now = certificates.now()
    rows = [
        {
            "name": f"{ending.host}: {ending.name}",
            "state": ending.left(now),
            "ends": "" if ending.ends == NEVER else ending.ends.isoformat(),
            "detail": ending.soon(now),
        }
        for ending in certificates.first_of_each(found)
    ]
    return rows + [{"name": f"{error.where}", "state": f"not known: {error.what}"} for error in errors]


def _last_run(ctx: Context) -> dict[str, str] | None:
    latest = ctx.state.last_run
    try:
        document = json.loads((latest / "run.json").read_text(encoding="utf-8")) if latest else None
    except (OSError, ValueError):
        return None
    if latest is None or document is None:
        return None
    failed = [
        label_of(stage["name"], stage.get("model", ""))
        for stage in document["stages"]
        if stage["status"] == "failed"
    ]
    return {
        "when": latest.name,
        "outcome": "ok" if document["ok"] else f"failed at {', '.join(failed) or 'no stage: nothing ran'}",
    }
