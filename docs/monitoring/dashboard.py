"""The Grafana dashboard beside this file, made from the names under which the model server has its metrics.

`python docs/monitoring/dashboard.py` writes it, `--check` only says whether it differs and then exits 1.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_server.metrics import Metrics

FILE = Path(__file__).with_name("dashboard.json")
METRICS = Metrics()
REQUESTS = METRICS.requests.name
REQUEST = METRICS.request_latency.name
RUNTIME = METRICS.runtime_latency.name
EXAMPLES = METRICS.examples.name
BATCHES = METRICS.example_counts.name
ATTEMPTS = METRICS.load_attempts.name
LOADED = METRICS.load_latency.name
WARMED = METRICS.warmup_latency.name
RECORDS = METRICS.warmup_records.name
QUEUED = METRICS.queuing_latency.name
BATCHED = METRICS.processed_batch_size.name
WAITING = METRICS.input_batch_size.name
PADDED = METRICS.padding_size.name

OF_MODEL = 'model_name=~"$model"'
WINDOW = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """One graph: what it is of, its unit in Grafana's words, and expression -> legend."""

    title: str
    unit: str
    lines: dict[str, str]


def _quantiles(metric: str) -> dict[str, str]:
    """Milliseconds that 50, 90 and 99 of 100 requests stay under."""
    rate = f"sum by (model_name, le) (rate({metric}_bucket{{{OF_MODEL}}}{WINDOW}))"
    return {
        f"histogram_quantile({share}, {rate}) / 1000": f"{{{{model_name}}}} p{share * 100:g}"
        for share in (0.5, 0.9, 0.99)
    }


PANELS = (
    Panel(
        "Requests",
        "reqps",
        {
            f"sum by (model_name, status) (rate({REQUESTS}{{{OF_MODEL}}}{WINDOW}))": (
                "{{model_name}} {{status}}"
            ),
        },
    ),
    Panel(
        "Share of requests that fail",
        "percentunit",
        {
            f'sum by (model_name) (rate({REQUESTS}{{{OF_MODEL}, status!="OK"}}{WINDOW}))'
            f" / sum by (model_name) (rate({REQUESTS}{{{OF_MODEL}}}{WINDOW}))": "{{model_name}}"
        },
    ),
    Panel("Time of a request", "ms", _quantiles(REQUEST)),
    Panel("Time of it in TensorFlow", "ms", _quantiles(RUNTIME)),
    Panel(
        "Requests by replica",
        "reqps",
        {f"sum by (instance) (rate({REQUEST}_count{{{OF_MODEL}}}{WINDOW}))": "{{instance}}"},
    ),
    Panel(
        "Examples",
        "cps",
        {f'sum by (model) (rate({EXAMPLES}{{model=~"$model"}}{WINDOW}))': "{{model}}"},
    ),
    Panel(
        "Examples in a request",
        "short",
        {
            f'sum by (model) (rate({BATCHES}_sum{{model=~"$model"}}{WINDOW}))'
            f' / sum by (model) (rate({BATCHES}_count{{model=~"$model"}}{WINDOW}))': "{{model}} mean"
        },
    ),
    Panel(
        "Rows of requests and batches",
        "short",
        {
            f"sum(rate({name}_sum{WINDOW})) / sum(rate({name}_count{WINDOW}))": f"{what} mean"
            for name, what in ((WAITING, "request"), (BATCHED, "batch"), (PADDED, "of it padding"))
        },
    ),
    Panel(
        "Time in the queue for a batch",
        "ms",
        {
            f"histogram_quantile({share}, sum by (thread_pool_name, le) (rate({QUEUED}_bucket{WINDOW})))"
            " / 1000": f"{{{{thread_pool_name}}}} p{share * 100:g}"
            for share in (0.5, 0.99)
        },
    ),
    Panel(
        "Versions loaded, and not",
        "short",
        {f"sum by (model_path, status) ({ATTEMPTS})": "{{model_path}} {{status}}"},
    ),
    Panel(
        "Time to load a version",
        "s",
        {f"max by (model_path) ({LOADED}) / 1000000": "{{model_path}}"},
    ),
    Panel(
        "Warm-up",
        "short",
        {
            f"sum by (model_path, status) ({RECORDS})": "{{model_path}} {{status}} records",
            f"sum by (model_path) ({WARMED}_sum) / sum by (model_path) ({WARMED}_count) / 1000000": (
                "{{model_path}} seconds"
            ),
        },
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it: two graphs a row."""
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "title": "slipway model servers",
        "uid": "slipway-model-servers",
        "tags": ["slipway", "tensorflow-serving"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                {
                    "name": "model",
                    "label": "Model",
                    "type": "query",
                    "datasource": source,
                    "query": f"label_values({REQUESTS}, model_name)",
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "refresh": 2,
                },
            ]
        },
        "panels": [
            {
                "id": number + 1,
                "title": panel.title,
                "type": "timeseries",
                "datasource": source,
                "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "targets": [
                    {
                        "refId": chr(ord("A") + line),
                        "datasource": source,
                        "expr": expr,
                        "legendFormat": legend,
                    }
                    for line, (expr, legend) in enumerate(panel.lines.items())
                ],
            }
            for number, panel in enumerate(PANELS)
        ],
    }


def text() -> str:
    """What the file holds."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main(arguments: list[str]) -> int:
    """Write the file, or say that it differs."""
    if arguments != ["--check"]:
        FILE.write_text(text(), encoding="utf-8")
        return 0
    if FILE.read_text(encoding="utf-8") == text():
        return 0
    sys.stderr.write(f"{FILE.name} is not what dashboard.py makes: python docs/monitoring/dashboard.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
