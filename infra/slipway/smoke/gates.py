"""The gates: limits that the answers of replicas, pod and Service are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slipway_client.check import Report
from slipway_client.statistics import Latency

from slipway.clients.endpoints import Stray
from slipway.core.schema import SmokeSettings
from slipway.core.types import Gate, LatencyMs, ReplicaProof
from slipway.smoke.asking_pod import PodAnswer
from slipway.smoke.replicas import Tried


def at_most(name: str, limit: float, value: float, note: str = "") -> Gate:
    """A gate that holds unless the value is above its limit."""
    return Gate(name, limit, value, value <= limit, note)


def answer_gates(reports: Sequence[Report], settings: SmokeSettings) -> list[Gate]:
    """Errors, differences and accuracy over everything that was asked."""
    compared = sum(one.compared for one in reports)
    requests = sum(one.requests for one in reports)
    labelled = sum(one.labelled for one in reports)
    wrong = sum(one.wrong for one in reports)
    note = ""
    if not compared:
        note = "no recorded answers"
    elif compared < requests - sum(one.errors for one in reports):
        note = f"{compared} of {requests} answers had a recorded one"
    if by_form := sum(one.by_form for one in reports):
        form = f"of {by_form} answers some outputs were compared by dtype and shape only"
        note = "; ".join(filter(None, [note, form]))
    gates = [
        at_most("errors", settings.max_errors, sum(one.errors for one in reports)),
        at_most("differences", settings.max_differences, sum(one.differences for one in reports), note),
    ]
    if labelled:
        accuracy = (labelled - wrong) / labelled
        gates.append(Gate("accuracy", settings.min_accuracy, accuracy, accuracy >= settings.min_accuracy))
    return gates


def transports_gate(tried: Sequence[Tried]) -> Gate:
    """REST against gRPC. What REST cannot carry is left out with a note: that is no fault of a replica's."""
    asked = sum(one.transports for one in tried)
    why = next((one.not_over_rest for one in tried if one.not_over_rest), "")
    note = f"{'others' if asked else 'all'} left out: {why}" if why else ""
    return at_most("grpc_and_rest_disagree", 0, sum(bool(one.transports_disagree) for one in tried), note)


def replica_proof(
    tried: Tried, version: int | None, others: Mapping[str, str], image: str = ""
) -> ReplicaProof:
    """One replica's line. version: the one it must serve. others: pod -> how it differs from the first
    replica. image: what its pod runs instead of the deployed image, empty when it runs that."""
    replica, report = tried.replica, tried.report
    endpoint = f"{replica.address}:{replica.grpc_port}"
    seen = report.versions if report else ()
    reasons = [tried.error] if tried.error else []
    if version is not None and report is not None and seen != (version,) and report.errors < report.requests:
        reasons.append(
            f"it serves version {', '.join(map(str, seen)) or 'unknown'}, the export is version {version}"
        )
    if image:
        reasons.append(f"it runs the image {image}")
    if tried.methods_disagree:
        reasons.append(f"Predict and Classify disagree: {tried.methods_disagree}")
    if tried.transports_disagree:
        reasons.append(f"gRPC and REST disagree: {tried.transports_disagree}")
    if replica.pod in others:
        reasons.append(f"it answers unlike the other replicas: {others[replica.pod]}")
    if report is not None:
        reasons += report.failures[:2]
    return ReplicaProof(
        endpoint=endpoint,
        pod=replica.pod,
        node=replica.node,
        requests=report.requests if report else 0,
        errors=report.errors if report else 0,
        wrong=report.wrong if report else 0,
        differences=report.differences if report else 0,
        model_version=seen[0] if len(seen) == 1 else None,
        error="; ".join(reasons),
    )


def stray_proof(stray: Stray) -> ReplicaProof:
    """A pod that is not where it belongs has proved nothing."""
    return ReplicaProof("", stray.pod, stray.node, 0, 0, 0, 0, None, stray.reason)


def answered(tried: Tried) -> bool:
    return tried.report is not None and not tried.error and tried.report.errors < tried.report.requests


def other_version(tried: Tried, version: int) -> bool:
    report = tried.report
    return report is not None and report.errors < report.requests and report.versions != (version,)


def pod_gate(from_pod: PodAnswer, settings: SmokeSettings) -> Gate:
    """What the pod found; a pod that could not ask failed everything it was to ask."""
    limit = settings.max_errors + settings.max_differences
    report = from_pod.report
    if report is None:
        return at_most("failures_from_a_pod", limit, settings.num_tests, from_pod.error)
    note = "; ".join(report.failures[:2])
    if not report.requests:
        return at_most("failures_from_a_pod", limit, settings.num_tests, "it asked nothing")
    return at_most("failures_from_a_pod", limit, report.errors + report.differences, note)


def latency_of(found: Latency | Mapping[str, float] | None) -> LatencyMs | None:
    if found is None:
        return None
    if isinstance(found, Latency):
        return LatencyMs(found.p50, found.p90, found.p99, found.max)
    return LatencyMs(found["p50"], found["p90"], found["p99"], found["max"])
