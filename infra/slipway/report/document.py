"""run.json: one run as data, whatever stage it ended at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from slipway.core.types import Result, Values


def proven(results: Iterable[Result], values: Values) -> bool:
    """Whether this run proved its deployment: it did what was asked, and the smoke stage's gates held."""
    return values.proof is not None and done(results, values)


def done(results: Iterable[Result], values: Values) -> bool:
    """Whether the run did what it was asked (exit code 0): something ran, nothing failed.

    `slipway image build` alone is done without being proven; a proof that is there must hold.
    """
    statuses = [result.status for result in results]
    if "failed" in statuses or not set(statuses) & {"changed", "unchanged"}:
        return False
    return values.proof is None or values.proof.ok


def document(results: tuple[Result, ...], values: Values, versions: Mapping[str, str]) -> dict[str, Any]:
    """run.json as data: ok, stages, versions and, per host, what the play did to it."""
    return {
        "ok": done(results, values),
        "stages": [asdict(result) for result in results],
        "versions": dict(versions),
        "hosts": hosts(values),
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
