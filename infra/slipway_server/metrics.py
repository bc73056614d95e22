"""TensorFlow Serving's metrics, under its names, in Prometheus' text format.

Written by hand because the names are not ones a Prometheus client library would make: they begin
with a colon and counters do not end in _total.
"""

from __future__ import annotations

import itertools
import operator
import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Upper bounds of histogram buckets, each `growth` times the one before."""
    return tuple(scale * growth**step for step in range(count))


_MICROSECONDS = exponential(10, 1.8, 33)  # up to about 20 minutes, upstream's buckets


class Counter:
    """A number per combination of label values."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], int] = {}

    def add(self, *values: str, amount: int = 1) -> None:
        with self._lock:
            self._cells[values] = self._cells.get(values, 0) + amount

    def state(self) -> list[Any]:
        with self._lock:
            return list(self._cells.items())

    def add_state(self, state: Iterable[Any]) -> None:
        for values, count in state:
            self.add(*values, amount=count)

    def first(self) -> int:
        """The value of one cell, 0 without any: what ReloadConfigResponse.metric reports."""
        with self._lock:
            return next(iter(self._cells.values()), 0)

    def lines(self) -> list[str]:
        with self._lock:
            cells = sorted(self._cells.items())
        return [f"{self.name}{_labels(self.labels, values)} {count}" for values, count in cells]


class Histogram:
    """Counts by bucket, sum and count per combination of label values."""

    kind = "histogram"

    def __init__(
        self, name: str, help: str, labels: Sequence[str], bounds: tuple[float, ...] = _MICROSECONDS
    ) -> None:
        self.name, self.help, self.labels, self._bounds = name, help, tuple(labels), bounds
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, value: float, *values: str) -> None:
        with self._lock:
            cell = self._cells.get(values)
            if cell is None:
                cell = self._cells[values] = ([0] * (len(self._bounds) + 1), [0.0])
            # A value on a bound counts above it: tensorflow/core/lib/histogram/histogram.cc, Add
            cell[0][bisect_right(self._bounds, value)] += 1
            cell[1][0] += value

    def state(self) -> list[Any]:
        with self._lock:
            return [(values, list(counts), total[0]) for values, (counts, total) in self._cells.items()]

    def add_state(self, state: Iterable[Any]) -> None:
        with self._lock:
            for values, counts, total in state:
                had, sum_ = self._cells.setdefault(tuple(values), ([0] * len(counts), [0.0]))
                had[:] = map(operator.add, had, counts)
                sum_[0] += total

    def lines(self) -> list[str]:
        with self._lock:
            cells = sorted(
                (values, list(counts), total[0]) for values, (counts, total) in self._cells.items()
            )
        out = []
        names = (*self.labels, "le")
        for values, counts, total in cells:
            for bound, count in zip(
                (*(f"{bound:g}" for bound in self._bounds), "+Inf"), itertools.accumulate(counts), strict=True
            ):
                out.append(f"{self.name}_bucket{_labels(names, (*values, bound))} {count}")
            out.append(f"{self.name}_sum{_labels(self.labels, values)} {total:g}")
            out.append(f"{self.name}_count{_labels(self.labels, values)} {sum(counts)}")
        return out


class Metrics:
    """The server's metrics; may be written from any thread."""

    def __init__(self) -> None:
        self.requests = Counter(
            ":tensorflow:serving:request_count", "The total number of requests.", ("model_name", "status")
        )
        self.request_latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ("model_name", "API", "entrypoint"),
        )
        self.runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow runtime.",
            ("model_name", "API", "runtime"),
        )
        self.examples = Counter(
            ":tensorflow:serving:request_example_count_total",
            "The total number of tensorflow.Examples.",
            ("model",),
        )
        self.example_counts = Histogram(
            ":tensorflow:serving:request_example_counts",
            "The number of tensorflow.Examples per request.",
            ("model",),
            exponential(1, 2, 15),
        )
        self.load_attempts = Counter(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "The number of times a SavedModel was requested to be loaded.",
            ("model_path", "status"),
        )
        self.load_latency = Counter(
            ":tensorflow:cc:saved_model:load_latency",
            "Latency in microseconds for SavedModels that were successfully loaded.",
            ("model_path",),
        )
        self.warmup_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency",
            "Distribution of wall time (in microseconds) for warming up the model.",
            ("model_path", "status"),
        )
        self.warmup_records = Counter(
            ":tensorflow:serving:model_warmup_records_read",
            "Total number of warmup records read during model warmup.",
            ("model_path", "status"),
        )
        session = ":tensorflow:serving:batching_session:"
        self.queuing_latency = Histogram(
            f"{session}queuing_latency",
            "Distribution of wall time spent (in microseconds) in queuing",
            ("thread_pool_name",),
            exponential(100, 1.2, 52),
        )
        self.input_batch_size, self.processed_batch_size, self.padding_size = (
            Histogram(f"{session}{name}", f"Tracks the {what}.", labels, exponential(1, 2, 14))
            for name, what, labels in (
                ("input_batch_size", "batch size distribution on the inputs", ()),
                ("processed_batch_size", "batch size distribution on processing", ()),
                ("padding_size", "padding size distribution on batches", ("execution_batch_size",)),
            )
        )
        self._all: tuple[Counter | Histogram, ...] = (
            self.queuing_latency,
            self.input_batch_size,
            self.processed_batch_size,
            self.padding_size,
            self.requests,
            self.request_latency,
            self.runtime_latency,
            self.examples,
            self.example_counts,
            self.load_attempts,
            self.load_latency,
            self.warmup_latency,
            self.warmup_records,
        )

    def state(self) -> dict[str, Any]:
        """Every cell of every metric, of types that JSON has."""
        return {metric.name: metric.state() for metric in self._all}

    def sum(self, others: Iterable[dict[str, Any]]) -> Metrics:
        """These and others' metrics together, from their states."""
        out = Metrics()
        for state in (self.state(), *others):
            for metric in out._all:
                metric.add_state(state.get(metric.name, []))
        return out

    def named(self, upstream: str) -> Counter | None:
        """The counter upstream calls e.g. /tensorflow/serving/request_count."""
        name = upstream.replace("/", ":")
        for metric in self._all:
            if isinstance(metric, Counter) and metric.name == name:
                return metric
        return None

    def text(self) -> str:
        """Everything, in Prometheus' text exposition format 0.0.4, by name as upstream has it."""
        out = []
        for metric in sorted(self._all, key=lambda metric: metric.name):
            out += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
            out += metric.lines()
        return "\n".join(out) + "\n"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
