"""The Proof of a deployment, or of one server: what was answered, held against the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.clients.kubectl import Found
from infra.core.errors import GateFailed, UsageError
from infra.core.schema import Settings, SmokeSettings
from infra.core.types import Gate, Proof, ReplicaProof
from infra.predict.check import Report, check, methods_agree, selection
from infra.predict.client import Tls, Transport, connect
from infra.predict.idx import images_as_requests
from infra.predict.requests import read
from infra.proving import gates
from infra.proving.inside import Inside
from infra.proving.replicas import READY_SECONDS, Tried, odd_ones_out


def prove_server(
    server: str,
    settings: Settings,
    requests: Path | None,
    *,
    work_dir: Path | None = None,
    signature: str = "",
    transport: Transport = "grpc",
    tls: Tls | None = None,
) -> Proof:
    """Ask one TensorFlow Serving at HOST:PORT, whoever runs it; `require` turns a bad Proof into an error.

    requests: a JSONL file of fixed requests; without one, work_dir: a folder with MNIST's IDX test files,
    asked under `signature`, or the one that takes images.

    Raises NotReachable, NotReady, WrongModel, WrongSignature, UsageError when it cannot be asked at all.
    """
    if requests is None and work_dir is None:
        raise UsageError("nothing to ask", where=server, action="give fixed requests or MNIST's test files")
    fixed = read(requests) if requests is not None else ()
    smoke, name = settings.smoke, settings.model.name
    with connect(server, transport, timeout=smoke.timeout, tls=tls) as client:
        if requests is None and work_dir is not None:
            fixed = images_as_requests(
                client,
                name,
                work_dir,
                smoke.num_tests,
                ready_timeout=READY_SECONDS,
                signature=signature,
            )
        report = check(
            client,
            name,
            selection(fixed, smoke.num_tests),
            concurrency=smoke.concurrency,
            ready_timeout=READY_SECONDS,
            with_load=True,
        )
        asked, disagree = (0, "") if report.errors else methods_agree(client, name, fixed)
    held = gates.answer_gates([report], smoke)
    if asked:
        held.append(gates.at_most("predict_and_classify_disagree", 0, int(bool(disagree)), disagree))
    replica = ReplicaProof(
        endpoint=server,
        pod="",
        node="",
        requests=report.requests,
        errors=report.errors,
        wrong=report.wrong,
        differences=report.differences,
        model_version=report.versions[0] if len(report.versions) == 1 else None,
        error="; ".join(report.failures[:2]),
    )
    return _as_proof(server, transport, [report], replicas=(replica,), held=held, timed=report)


def require(proof: Proof, namespace: str = "") -> Proof:
    """The Proof when every gate held. Raises GateFailed with a line per failed gate and bad replica.

    namespace: where its pods are, if it has any.
    """
    if proof.ok:
        return proof
    failed = ", ".join(gate.name for gate in proof.gates if not gate.ok)
    raise GateFailed(
        f"not proven: {failed}",
        value=proof,
        where=proof.server,
        tail="\n".join(gates.bad_lines(proof)),
        action=f"read the log of the pods named here: `kubectl logs -n {namespace} POD` (`slipway env` sets kubectl up)"
        if any(replica.pod for replica in proof.replicas)
        else "read the server's log; answers differ when it serves other weights than the recorded ones",
    )


def of_deployment(
    found: Found,
    tried: Sequence[Tried],
    inside: Inside,
    *,
    version: int,
    foreign: Mapping[str, str],
    settings: SmokeSettings,
) -> Proof:
    """What the replicas and the pod said, held against the gates.

    version: the one every replica must serve. foreign: pod -> image, where it is not the deployed one.
    """
    reports = [one.report for one in tried if one.report is not None]
    others = odd_ones_out(tried)
    good = sum(gates.answered(one) for one in tried)
    held = [
        Gate("replicas_answered", found.wanted, good, good == found.wanted == len(tried)),
        gates.at_most("stray_pods", 0, len(found.strays)),
        *gates.answer_gates(reports, settings),
        gates.at_most("other_versions", 0, sum(gates.other_version(one, version) for one in tried)),
        gates.at_most("other_images", 0, len(foreign)),
        gates.at_most("replicas_disagree", 0, len(others)),
    ]
    if any(one.methods for one in tried):
        held.append(
            gates.at_most(
                "predict_and_classify_disagree", 0, sum(bool(one.methods_disagree) for one in tried)
            )
        )
    if any(one.transports for one in tried):
        held.append(
            gates.at_most("grpc_and_rest_disagree", 0, sum(bool(one.transports_disagree) for one in tried))
        )
    held.append(gates.inside_gate(inside, settings))
    replicas = [gates.replica_proof(one, version, others, foreign.get(one.replica.pod, "")) for one in tried]
    replicas += [gates.stray_proof(stray) for stray in found.strays]
    place = found.endpoints
    server = f"{place.service}.{place.namespace}:{place.grpc_port}"
    return _as_proof(server, "grpc", reports, replicas=tuple(replicas), held=held, timed=inside.report)


def _as_proof(
    server: str,
    transport: str,
    reports: Sequence[Report],
    *,
    replicas: tuple[ReplicaProof, ...],
    held: list[Gate],
    timed: Report | None,
) -> Proof:
    """timed: the report whose latency and throughput count; through a tunnel one measures the tunnel."""
    labelled = sum(one.labelled for one in reports)
    wrong = sum(one.wrong for one in reports)
    steady = timed.load if timed is not None else None
    return Proof(
        ok=all(gate.ok for gate in held),
        server=server,
        transport=transport,
        requests=sum(one.requests for one in reports),
        errors=sum(one.errors for one in reports),
        wrong=wrong,
        differences=sum(one.differences for one in reports),
        accuracy=(labelled - wrong) / labelled if labelled else None,
        latency_ms=gates.latency_of(steady["latency"]) if steady else None,
        throughput_rps=round(steady["per_second"], 1) if steady else None,
        replicas=replicas,
        gates=tuple(held),
    )
