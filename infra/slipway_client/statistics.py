"""What many requests say together: latencies, throughput, how many ended with which status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

OK = "OK"


@dataclass(frozen=True)
class Latency:
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class Statistics:
    """statuses: gRPC status -> requests that ended with it. latency: of those that ended OK."""

    requests: int
    seconds: float
    statuses: Mapping[str, int]
    latency: Latency | None

    @property
    def errors(self) -> int:
        return self.requests - self.statuses.get(OK, 0)

    @property
    def per_second(self) -> float:
        """Good answers per second."""
        return self.statuses.get(OK, 0) / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "statuses": dict(self.statuses), "per_second": self.per_second}


def latency(seconds: Sequence[float]) -> Latency | None:
    """Percentiles of latencies given in seconds, or None if there are none."""
    if not len(seconds):
        return None
    p50, p90, p99, longest = np.percentile(np.asarray(seconds) * 1000, [50, 90, 99, 100])
    return Latency(*(round(float(value), 3) for value in (p50, p90, p99, longest)))


def summarize(ended: Sequence[tuple[str, float]], seconds: float) -> Statistics:
    """(status, latency in seconds) of each request, and how long they took together."""
    good = [took for status, took in ended if status == OK]
    return Statistics(len(ended), seconds, dict(Counter(status for status, _ in ended)), latency(good))
