"""Prove that every replica answers, and answers right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from slipway_client.check import Report, selection
from slipway_client.requests import FixedRequest, read

from slipway.clients import nodes
from slipway.clients.endpoints import find_endpoints
from slipway.clients.kubectl import Kubectl
from slipway.core.context import Context
from slipway.core.events import Note
from slipway.core.schema import Settings
from slipway.core.state import write_atomically
from slipway.core.types import Cluster, Endpoints, ExportedModel, Hosts, ImageRef, Outcome, Proof, dump
from slipway.core.verdicts import which
from slipway.smoke import network_policy
from slipway.smoke.access import access_to
from slipway.smoke.asking_pod import AskingPod, lies_in_image
from slipway.smoke.foreign_images import other_images
from slipway.smoke.proof import ModelAnswers, of_deployment, require
from slipway.smoke.reach import way_in
from slipway.smoke.replicas import Tried, ask_all, ask_many


@dataclass(frozen=True)
class Asked:
    """What one model is asked. file: where the requests are from."""

    model: ExportedModel
    file: Path
    requests: tuple[FixedRequest, ...]


class Smoke:
    """Fixed requests to each replica by name and to the Service from a pod -> Proof."""

    title: ClassVar[str] = "Prove every replica"
    alone: ClassVar[bool] = True  # what it measures is the deployment, not what else is at work here

    def run(
        self,
        ctx: Context,
        settings: Settings,
        *,
        hosts: Hosts | None,
        cluster: Cluster,
        model: ExportedModel,
        image: ImageRef,
        endpoints: Endpoints,
    ) -> Outcome[Proof]:
        """Find the replicas anew, ask each, ask the Service from a pod, hold the gates.

        Leaves smoke.json and one report per replica in the run's folder, and nothing in the cluster.
        Raises GateFailed, with the Proof, after writing it; UsageError for bad requests.
        """
        own = settings.smoke.requests or model.requests
        files = [(model, own), *((one, one.requests) for one in model.beside)]
        asked = [Asked(one, file, tuple(read(file))) for one, file in files]
        kubectl = Kubectl.of(cluster)
        found = find_endpoints(
            kubectl, endpoints.namespace, endpoints.deployment, endpoints.service, endpoints.applied_by
        )
        replicas = found.endpoints.replicas
        many = len(replicas) >= settings.smoke.many_replicas
        troubled = nodes.read(kubectl)
        for trouble in troubled:
            if trouble.acute:
                ctx.emit(Note(trouble.sentence))
        trying = network_policy.FROM_OF_MANY if many else None
        where = f"{min(trying, len(replicas))} replicas" if trying else "each replica"
        ctx.emit(Note(f"trying from {where} what the NetworkPolicy forbids"))
        # Most of that is waiting for answers that do not come, in which the pod starts and measures; replicas
        # are asked after it, for their answers would be in what it measures.
        with (
            ThreadPoolExecutor(max_workers=1) as beside,
            access_to(kubectl, endpoints.namespace, endpoints.deployment) as access,
        ):
            looking = beside.submit(network_policy.look, kubectl, cluster, found.endpoints, at_most=trying)
            from_pods = []
            for one in asked:
                pod = AskingPod(
                    kubectl,
                    found.endpoints,
                    image=image,
                    model=one.model,
                    settings=settings.smoke,
                    emit=ctx.emit,
                    access=access,
                )
                of_model = f" for model {one.model.name}" if model.beside else ""
                service = f"{endpoints.service}:{found.endpoints.grpc_port}"
                ctx.emit(Note(f"asking {service} from pod {pod.name}{of_model}"))
                chosen = selection(one.requests, settings.smoke.num_tests)
                from_pods.append(pod.ask(chosen, in_image=lies_in_image(one.model, one.file)))
            ask = ask_many if many else ask_all
            with way_in(kubectl, endpoints.namespace, hosts) as way:
                ctx.emit(Note(f"asking {len(replicas)} replicas through {way.words}{_how(settings, many)}"))
                answers = [
                    ModelAnswers(
                        one.model,
                        ask(way, replicas, one.model.name, one.requests, settings.smoke, access=access),
                        from_pod,
                    )
                    for one, from_pod in zip(asked, from_pods, strict=True)
                ]
        foreign = other_images(kubectl, found.endpoints, image)
        proof = of_deployment(
            found,
            answers,
            foreign=foreign,
            policy=network_policy.gate(
                looking.result(), required=network_policy.required(settings), of=len(replicas)
            ),
            settings=settings.smoke,
        )
        for told in answers:
            folder = "" if told.model is model else f"{told.model.name}/"
            if many:
                _keep_all(ctx, f"{folder}replicas", told.tried)
            else:
                for replica in told.tried:
                    _keep(ctx, f"{folder}{replica.replica.pod}", replica.report)
            _keep(ctx, f"{folder}from-a-pod", told.from_pod.report)
        write_atomically(ctx.run / "smoke.json", dump(proof))
        return Outcome(require(proof, endpoints.namespace, troubled), 0, _summary(proof))

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """Nothing: smoke asks, and leaves the cluster as it was."""
        return []


def _keep(ctx: Context, name: str, report: Report | None) -> None:
    if report is not None:
        text = json.dumps(report.as_json(), indent=2) + "\n"
        write_atomically(ctx.evidence(f"smoke/{name}.json"), text)


def _keep_all(ctx: Context, name: str, tried: Sequence[Tried]) -> None:
    """One file for many replicas, a line each."""
    lines = [
        json.dumps({"pod": one.replica.pod, **one.report.as_json()}) + "\n" for one in tried if one.report
    ]
    write_atomically(ctx.evidence(f"smoke/{name}.jsonl"), "".join(lines))


def _how(settings: Settings, many: bool) -> str:
    """What is asked of each replica, where that is not everything, and why."""
    if not many:
        return ""
    smoke = settings.smoke
    return (
        f": each for its version and {smoke.sample} answers, for there are {smoke.many_replicas} or more "
        "(smoke.many_replicas)"
    )


def _summary(proof: Proof) -> str:
    return "; ".join(f"{which(one, proof)}{_answered(one)}" for one in proof.each)


def _answered(proof: Proof) -> str:
    accuracy = "" if proof.accuracy is None else f", accuracy {proof.accuracy:.3f}"
    return (
        f"{len(proof.replicas)} replicas answered {proof.requests} requests: {proof.errors} errors,"
        f" {proof.differences} differences{accuracy}"
    )
