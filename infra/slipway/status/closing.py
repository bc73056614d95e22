"""The last lines of a run: what was deployed, where, how accurate, how long, what to type next."""

from __future__ import annotations

from slipway.core.context import Context
from slipway.core.timing import critical_path, whole_seconds
from slipway.core.types import Result, Run
from slipway.core.verdicts import gate_note, proofs

NAMED = 8  # nodes told by name


def closing_lines(run: Run, ctx: Context) -> list[str]:
    """The outcome of a run for people; the same facts are in its run.json."""
    out = _deployed(run) + _proved(run) + _times(run.results)
    if run.ok and _all_proved(run) and _nothing_changed(run):
        out.append(_unchanged(run))
    out.append(f"report:   {ctx.state.runs / 'latest' / 'index.html'}")
    return out + [f"next:     {line}" for line in _next(run)]


def _all_proved(run: Run) -> bool:
    return all(made.proof is not None for _, made in run.values.each)


def _deployed(run: Run) -> list[str]:
    out, cluster = [], run.values.cluster
    for _, made in run.values.each:
        endpoints, image = made.endpoints, made.image
        if endpoints is not None and image is not None:
            nodes = sorted({replica.node for replica in endpoints.replicas})
            out.append(
                f"deployed: {endpoints.deployment} in namespace {endpoints.namespace}, "
                f"{len(endpoints.replicas)} replicas "
                f"on {_named(nodes)}, behind {endpoints.service}:{endpoints.grpc_port}"
            )
            out.append(f"image:    {image.reference}")
        if made.servers is not None and made.servers.hosts and made.model is not None:
            hosts = ", ".join(made.servers.hosts)
            out.append(
                f"served:   {made.model.name} version {made.model.version} on {hosts}, answers as recorded"
            )
    if cluster is not None:
        versions = sorted({node.version for node in cluster.nodes})
        out.append(f"cluster:  {cluster.api}, {len(cluster.nodes)} nodes, Kubernetes {', '.join(versions)}")
    return out


def _named(nodes: list[str]) -> str:
    return ", ".join(nodes) if len(nodes) <= NAMED else f"{len(nodes)} nodes"


def _proved(run: Run) -> list[str]:
    several = len(proofs(run.values)) > 1
    out = []
    for one, whose in proofs(run.values):
        right = f"{one.requests} requests, {one.errors} errors, {one.differences} differences"
        rate = f", error rate {100 * (1 - one.accuracy):.1f} %" if one.accuracy is not None else ""
        held = all(gate.ok for gate in one.gates) if several else one.ok
        out.append(
            f"{'proved:  ' if held else 'NOT proved:'} {f'model {whose}: ' if whose else ''}"
            f"{len(one.replicas)} replicas, {right}{rate}"
        )
        out += [
            f"{'but:':<9} {gate.name}: {gate_note(gate)}" for gate in one.gates if gate.ok and gate.verdict
        ]
    if out:  # else nobody asked for a proof
        out += [f"NOT proved: model {name}" for name, made in run.values.models.items() if not made.proof]
    for _, made in run.values.each:
        model = made.model
        if model is not None and model.accuracy is not None:
            out.append(
                f"model:    {model.name} version {model.version}, accuracy {model.accuracy:.3f} "
                f"on {model.data}"
            )
    return out


def _times(results: tuple[Result, ...]) -> list[str]:
    """How long each stage took and all together; the critical path where some were beside others."""
    ran = [result for result in results if result.status != "not_run"]
    if not ran:
        return []
    told = [f"{result.label} {result.seconds:.1f} s" for result in ran]
    collecting = sum(result.evidence_seconds for result in results)
    if collecting:
        told.append(f"evidence {collecting:.1f} s")
    out = [f"times:    {', '.join(told)}; {whole_seconds(results):.1f} s in all"]
    path = critical_path(results)
    if any(result not in path for result in ran):
        seconds = sum(result.seconds for result in path)
        labels = ", ".join(result.label for result in path)
        out.append(f"path:     {labels}: {seconds:.1f} s one after the other")
    return out


def _nothing_changed(run: Run) -> bool:
    """Whether the chain was gone through to the deployment and found as it should be."""
    deployed = {result.status for result in run.results if result.name == "deploy"} == {"unchanged"}
    return deployed and all(result.changed == 0 for result in run.results)


def _unchanged(run: Run) -> str:
    cluster, hosts = run.values.cluster, run.values.hosts
    tasks = "0 changed tasks" if cluster is not None and cluster.plays else "no tasks"
    count = f" on {len(hosts.hosts)} hosts" if hosts is not None else ""
    return f"nothing changed: {tasks}{count}, same image digest, same pods"


def _next(run: Run) -> list[str]:
    spaces = dict.fromkeys(made.endpoints.namespace for _, made in run.values.each if made.endpoints)
    if run.ok and _all_proved(run) and spaces:
        return [
            *(f'eval "$(slipway env)" && kubectl get pods -n {space} -o wide' for space in spaces),
            "slipway smoke",
            "slipway down",
        ]
    if any(result.status == "failed" for result in run.results):
        return ["slipway up   (after fixing the cause above; what is done stays done)", "slipway doctor"]
    return ["slipway up"]
