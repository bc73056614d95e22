"""Stage 7: prove that every replica answers, and answers right."""

from __future__ import annotations

import json
from typing import ClassVar

from infra.clients.kubectl import Kubectl, find_endpoints
from infra.core.context import Context
from infra.core.events import Note
from infra.core.schema import Settings
from infra.core.state import write_atomically
from infra.core.types import Cluster, Endpoints, ExportedModel, Hosts, ImageRef, Outcome, Proof, dump
from infra.predict.check import Report, selection
from infra.predict.requests import read
from infra.proving import proofs
from infra.proving.images import other_images
from infra.proving.inside import Asker, lies_in_image
from infra.proving.proofs import prove_server, require
from infra.proving.replicas import ask_all
from infra.proving.ways import way_in

__all__ = ["Smoke", "prove_server", "require"]


class Smoke:
    """Fixed requests to each replica by name and to the Service from a pod -> Proof."""

    title: ClassVar[str] = "ask every replica"

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
        file = settings.smoke.requests or model.requests
        requests = read(file)
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, settings.cluster.context)
        found = find_endpoints(
            kubectl, endpoints.namespace, endpoints.deployment, endpoints.service, endpoints.applied_by
        )
        with way_in(kubectl, endpoints.namespace, hosts) as way:
            ctx.emit(Note(f"asking {len(found.endpoints.replicas)} replicas through {way.words}"))
            tried = ask_all(way, found.endpoints.replicas, model.name, requests, settings.smoke)
        asker = Asker(
            kubectl, found.endpoints, image=image, model=model, settings=settings.smoke, emit=ctx.emit
        )
        ctx.emit(Note(f"asking {endpoints.service}:{found.endpoints.grpc_port} from pod {asker.name}"))
        inside = asker.ask(selection(requests, settings.smoke.num_tests), in_image=lies_in_image(model, file))
        foreign = other_images(kubectl, found.endpoints, image)
        proof = proofs.of_deployment(
            found, tried, inside, version=model.version, foreign=foreign, settings=settings.smoke
        )
        for one in tried:
            _keep(ctx, one.replica.pod, one.report)
        _keep(ctx, "from-a-pod", inside.report)
        write_atomically(ctx.run / "smoke.json", dump(proof))
        return Outcome(require(proof, endpoints.namespace), 0, _summary(proof))

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """Nothing: smoke asks, and leaves the cluster as it was."""
        return []


def _keep(ctx: Context, name: str, report: Report | None) -> None:
    if report is not None:
        text = json.dumps(report.as_json(), indent=2) + "\n"
        write_atomically(ctx.evidence(f"smoke/{name}.json"), text)


def _summary(proof: Proof) -> str:
    accuracy = "" if proof.accuracy is None else f", accuracy {proof.accuracy:.3f}"
    return (
        f"{len(proof.replicas)} replicas answered {proof.requests} requests: {proof.errors} errors,"
        f" {proof.differences} differences{accuracy}"
    )
