"""The last lines of a run: what was deployed, where, how accurate, how long, what to type next."""

from __future__ import annotations

from infra.core.context import Context
from infra.core.types import Cluster, Endpoints, ExportedModel, Hosts, ImageRef, Proof, Result, Run


def closing_lines(run: Run, ctx: Context) -> list[str]:
    """The outcome of a run for people; the same facts are in its run.json."""
    out = _deployed(run) + _proved(run) + _times(run.results)
    if run.ok and run.values.get("smoke") is not None and _nothing_changed(run):
        out.append(_unchanged(run))
    out.append(f"report:   {ctx.state.runs / 'latest' / 'index.html'}")
    return out + [f"next:     {line}" for line in _next(run)]


def _deployed(run: Run) -> list[str]:
    endpoints, image, cluster = (run.values.get(name) for name in ("deploy", "image", "provision"))
    out = []
    if isinstance(endpoints, Endpoints) and isinstance(image, ImageRef):
        nodes = sorted({replica.node for replica in endpoints.replicas})
        out.append(
            f"deployed: {endpoints.deployment} in namespace {endpoints.namespace}, {len(endpoints.replicas)} replicas "
            f"on {', '.join(nodes)}, behind {endpoints.service}:{endpoints.grpc_port}"
        )
        out.append(f"image:    {image.reference}")
    if isinstance(cluster, Cluster):
        versions = sorted({node.version for node in cluster.nodes})
        out.append(f"cluster:  {cluster.api}, {len(cluster.nodes)} nodes, Kubernetes {', '.join(versions)}")
    return out


def _proved(run: Run) -> list[str]:
    proof, model = run.values.get("smoke"), run.values.get("model")
    out = []
    if isinstance(proof, Proof):
        right = f"{proof.requests} requests, {proof.errors} errors, {proof.differences} differences"
        rate = f", error rate {100 * (1 - proof.accuracy):.1f} %" if proof.accuracy is not None else ""
        out.append(
            f"{'proved:  ' if proof.ok else 'NOT proved:'} {len(proof.replicas)} replicas, {right}{rate}"
        )
    if isinstance(model, ExportedModel) and model.accuracy is not None:
        out.append(
            f"model:    {model.name} version {model.version}, accuracy {model.accuracy:.3f} on {model.data}"
        )
    return out


def _times(results: tuple[Result, ...]) -> list[str]:
    ran = [
        f"{result.name} {result.seconds:.1f} s"
        for result in results
        if result.status != "not_run" and result.name != "settings"
    ]
    total = sum(result.seconds for result in results)
    return [f"times:    {', '.join(ran)}; {total:.1f} s in all"] if ran else []


def _nothing_changed(run: Run) -> bool:
    """Whether the chain was gone through to the deployment and found as it should be."""
    deployed = any(result.name == "deploy" and result.status == "unchanged" for result in run.results)
    return deployed and all(result.changed == 0 for result in run.results)


def _unchanged(run: Run) -> str:
    cluster, hosts = run.values.get("provision"), run.values.get("hosts")
    tasks = "0 changed tasks" if isinstance(cluster, Cluster) and cluster.plays else "no tasks"
    count = f" on {len(hosts.hosts)} hosts" if isinstance(hosts, Hosts) else ""
    return f"nothing changed: {tasks}{count}, same image digest, same pods"


def _next(run: Run) -> list[str]:
    endpoints = run.values.get("deploy")
    if run.ok and "smoke" in run.values and isinstance(endpoints, Endpoints):
        return [
            f'eval "$(slipway env)" && kubectl get pods -n {endpoints.namespace} -o wide',
            "slipway smoke",
            "slipway down",
        ]
    if any(result.status == "failed" for result in run.results):
        return ["slipway up   (after mending the cause above; what is done stays done)", "slipway doctor"]
    return ["slipway up"]
