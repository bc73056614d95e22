"""run.json: one run as data, whatever stage it ended at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from infra.core.types import Cluster, Endpoints, ExportedModel, Hosts, ImageRef, Proof, Result

T = TypeVar("T")


@dataclass(frozen=True)
class RunValues:
    """What the stages handed on; None for a stage the run did not get to."""

    hosts: Hosts | None = None
    cluster: Cluster | None = None
    model: ExportedModel | None = None
    image: ImageRef | None = None
    endpoints: Endpoints | None = None
    proof: Proof | None = None

    @classmethod
    def of(cls, values: Iterable[object]) -> RunValues:
        """Sort values by their type; others are left out."""
        known = tuple(values)
        return cls(
            hosts=_first(Hosts, known),
            cluster=_first(Cluster, known),
            model=_first(ExportedModel, known),
            image=_first(ImageRef, known),
            endpoints=_first(Endpoints, known),
            proof=_first(Proof, known),
        )


def _first(kind: type[T], values: tuple[object, ...]) -> T | None:
    return next((value for value in values if isinstance(value, kind)), None)


def proven(results: Iterable[Result], values: RunValues) -> bool:
    """Whether this run proved its deployment: it did what was asked, and the smoke stage's gates held."""
    return values.proof is not None and done(results, values)


def done(results: Iterable[Result], values: RunValues) -> bool:
    """Whether the run did what it was asked (exit code 0): something ran, nothing failed.

    `slipway image build` alone is done without being proven; a proof that is there must hold.
    """
    statuses = [result.status for result in results]
    if "failed" in statuses or not set(statuses) & {"changed", "unchanged"}:
        return False
    return values.proof is None or values.proof.ok


def document(results: tuple[Result, ...], values: RunValues, versions: Mapping[str, str]) -> dict[str, Any]:
    """run.json as data: ok, stages, versions and, per host, what the play did to it."""
    return {
        "ok": done(results, values),
        "stages": [asdict(result) for result in results],
        "versions": dict(versions),
        "hosts": hosts(values),
    }


def hosts(values: RunValues) -> list[dict[str, Any]]:
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
