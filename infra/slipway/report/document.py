"""run.json: one run as data, whatever stage it ended at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from slipway.core.timing import critical_path, whole_seconds
from slipway.core.types import Result, Values


def proven(results: Iterable[Result], values: Values) -> bool:
    """Whether this run proved its deployments: it did what was asked, and the smoke stage's gates held."""
    return all(one.proof is not None for _, one in values.each) and done(results, values)


def done(results: Iterable[Result], values: Values) -> bool:
    """Whether the run did what it was asked (exit code 0): something ran, nothing failed.

    `slipway image build` alone is done without being proven; a proof that is there must hold.
    """
    statuses = [result.status for result in results]
    if "failed" in statuses or not set(statuses) & {"changed", "unchanged"}:
        return False
    return all(one.proof is None or one.proof.ok for _, one in values.each)


def document(results: tuple[Result, ...], values: Values, versions: Mapping[str, str]) -> dict[str, Any]:
    """run.json as data: ok, stages, their time, versions and, per host, what the play did to it.

    Of several models each stage says whose it is, and `models` what came of each.
    """
    path = critical_path(results)
    out = {
        "ok": done(results, values),
        "stages": [
            {key: value for key, value in asdict(result).items() if key != "model" or value}
            for result in results
        ],
        "seconds": whole_seconds(results),
        "critical_path": {
            "stages": [result.label for result in path],
            "seconds": sum(result.seconds for result in path),
        },
        "versions": dict(versions),
        "hosts": hosts(values),
    }
    if values.models:
        out["models"] = {name: _model(one) for name, one in values.models.items()}
    return out


def _model(values: Values) -> dict[str, Any]:
    """What came of one of several models: its image, where it answers, whether that is proven."""
    endpoints, image = values.endpoints, values.image
    return {
        "proven": values.proof is not None and values.proof.ok,
        "image": image.reference if image else None,
        "namespace": endpoints.namespace if endpoints else None,
        "service": endpoints.service if endpoints else None,
    }


def hosts(values: Values) -> list[dict[str, Any]]:
    """Every machine of the run: where it is and, once provisioned, counts and seconds per role."""
    machines = {host.name: host for host in values.hosts.hosts} if values.hosts else {}
    plays = values.cluster.plays if values.cluster else {}
    out: list[dict[str, Any]] = []
    for name in dict.fromkeys((*machines, *plays)):
        entry: dict[str, Any] = {"name": name}
        if name in machines:
            entry |= {"address": machines[name].address, "groups": list(machines[name].groups)}
        if name in plays:
            entry |= asdict(plays[name])
        out.append(entry)
    return out
