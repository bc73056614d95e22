"""The Proof of a deployment, or of one server: what was answered, held against the gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from slipway_client.check import Report, check, methods_agree, selection
from slipway_client.client import Client, Transport
from slipway_client.connect import Options, connect
from slipway_client.loop import Ended
from slipway_client.requests import FixedRequest

from slipway.clients.endpoints import Found
from slipway.clients.nodes import Trouble, actions
from slipway.core.errors import GateFailed
from slipway.core.schema import Settings, SmokeSettings
from slipway.core.types import ExportedModel, Gate, Proof, ReplicaProof
from slipway.core.verdicts import bad_lines, failed_gates
from slipway.smoke import gates, network_policy
from slipway.smoke.asking_pod import PodAnswer
from slipway.smoke.replicas import READY_SECONDS, Tried, odd_ones_out

# What a server is asked: fixed requests, or ones made from what it says of its signatures
Questions = Callable[[Client], Sequence[FixedRequest]]


@dataclass(frozen=True)
class ModelAnswers:
    """What every replica, and the pod through the Service, answered for one model."""

    model: ExportedModel
    tried: tuple[Tried, ...]
    from_pod: PodAnswer


def prove_server(
    server: str,
    settings: Settings,
    questions: Questions,
    *,
    transport: Transport = "grpc",
    options: Options | None = None,
    on_end: Callable[[Ended], None] = lambda _ended: None,
) -> Proof:
    """Ask one model server at HOST:PORT, whoever runs it; `require` turns a bad Proof into an error.

    options: its protocol, TLS and token. on_end: called after each of the asked requests, from the thread
    that sent it.

    Raises NotReachable, NotReady, WrongModel, WrongSignature, UsageError when it cannot be asked at all.
    """
    smoke, name = settings.smoke, settings.model.name
    spoken: Options = {"timeout": smoke.timeout, **(options or {})}
    with connect(server, transport, **spoken) as client:
        fixed = questions(client)
        report = check(
            client,
            name,
            selection(fixed, smoke.num_tests),
            concurrency=smoke.concurrency,
            ready_timeout=READY_SECONDS,
            with_load=True,
            on_end=on_end,
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


def require(proof: Proof, namespace: str = "", troubled: Sequence[Trouble] = ()) -> Proof:
    """The Proof when every gate held. Raises GateFailed with a line per failed gate, bad replica and node.

    namespace: where its pods are, if it has any. troubled: nodes that take no pods, which may be why replicas
    are missing.
    """
    if proof.ok:
        return proof
    failed = ", ".join(failed_gates(proof))
    raise GateFailed(
        f"not proven: {failed}",
        value=proof,
        where=proof.server,
        tail="\n".join([*(trouble.sentence for trouble in troubled), *bad_lines(proof)]),
        action="; or ".join([*actions(troubled), _advice(proof, namespace)]),
    )


def _advice(proof: Proof, namespace: str) -> str:
    """Where to look first."""
    if [gate.name for one in proof.each for gate in one.gates if not gate.ok] == [network_policy.NAME]:
        return (
            f"see that the policy is there (`kubectl get networkpolicy -n {namespace}`; `slipway deploy` "
            "sets it up) and what enforces it (`kubectl get pods -n kube-system -l "
            "app=kube-network-policies` in a cluster of slipway's; `slipway provision` sets it up)"
        )
    if any(replica.pod for replica in proof.replicas):
        return (
            f"read the log of the pods named here: `kubectl logs -n {namespace} POD` (`slipway env` sets "
            "kubectl up)"
        )
    return (
        "read the server's log; answers differ when it serves other weights than the recorded ones, or when "
        "the model is random (ask it without expected values, or allow smoke.max_differences)"
    )


def of_deployment(
    found: Found,
    answers: Sequence[ModelAnswers],
    *,
    foreign: Mapping[str, str],
    policy: Gate,
    settings: SmokeSettings,
) -> Proof:
    """What the replicas and pods said of each model, held against the gates; the first is the deployment's.

    foreign: pod -> image, where it is not the deployed one. policy: the gate of what the replicas can reach.
    """
    first, *others = answers
    beside = tuple(_of_model(found, one, {}, None, settings) for one in others)
    proof = _of_model(found, first, foreign, policy, settings)
    return replace(proof, ok=proof.ok and all(one.ok for one in beside), beside=beside)


def _of_model(
    found: Found,
    answers: ModelAnswers,
    foreign: Mapping[str, str],
    policy: Gate | None,
    settings: SmokeSettings,
) -> Proof:
    """One model's proof. policy: None for a model whose pods were judged with another."""
    tried, from_pod, version = answers.tried, answers.from_pod, answers.model.version
    reports = [one.report for one in tried if one.report is not None]
    others = odd_ones_out(tried)
    good = sum(gates.answered(one) for one in tried)
    held = [
        Gate("replicas_answered", found.wanted, good, good == found.wanted == len(tried)),
        *([gates.at_most("stray_pods", 0, len(found.strays))] if policy else []),
        *gates.answer_gates(reports, settings),
        gates.at_most("other_versions", 0, sum(gates.other_version(one, version) for one in tried)),
        *([gates.at_most("other_images", 0, len(foreign))] if policy else []),
        gates.at_most("replicas_disagree", 0, len(others)),
    ]
    if any(one.methods for one in tried):
        held.append(
            gates.at_most(
                "predict_and_classify_disagree", 0, sum(bool(one.methods_disagree) for one in tried)
            )
        )
    if any(one.transports or one.not_over_rest for one in tried):
        held.append(gates.transports_gate(tried))
    held += [gates.pod_gate(from_pod, settings), *([policy] if policy else [])]
    replicas = [gates.replica_proof(one, version, others, foreign.get(one.replica.pod, "")) for one in tried]
    if policy:
        replicas += [gates.stray_proof(stray) for stray in found.strays]
    place = found.endpoints
    server = f"{place.service}.{place.namespace}:{place.grpc_port}"
    made = _as_proof(server, "grpc", reports, replicas=tuple(replicas), held=held, timed=from_pod.report)
    return replace(made, model=answers.model.name)


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
