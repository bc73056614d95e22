"""The dashboard, the alerts and their page name what the model server exports, and all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.image import build_context
from slipway_server import config
from slipway_server.metrics import Counter, Metrics
from slipway_stacks import outputs

from docs.monitoring import dashboard

ROOT = Path(__file__).parents[3]
ALERTS = yaml.safe_load((ROOT / "docs/monitoring/alerts.yml").read_text())["groups"]
RULES = [rule for group in ALERTS for rule in group["rules"]]
EXPORTED: dict[str, Counter | Any] = {metric.name: metric for metric in Metrics()._all}
# what Prometheus itself gives every sample of a target
OF_THE_TARGET = {"instance", "job"}


def expressions() -> dict[str, str]:
    """Every expression by where it stands."""
    shown = {
        f"{panel.title}: {legend}": expr for panel in dashboard.PANELS for expr, legend in panel.lines.items()
    }
    return shown | {rule["alert"]: rule["expr"] for rule in RULES}


def samples(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each name of a sample in an expression, with the labels its braces hold."""
    for name, braces in re.findall(r"(:[\w:]+)(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', expression)):
        yield name, set(re.findall(r"(\w+)\s*[=!]", braces))


def metric_of(sample: str) -> Any:
    """The metric a sample is of. Raises KeyError when the server exports no such sample."""
    if sample in EXPORTED:
        if EXPORTED[sample].kind == "counter":
            return EXPORTED[sample]
        raise KeyError(f"{sample} is a histogram")
    found = EXPORTED[re.sub(r"_(bucket|sum|count)$", "", sample)]
    if found.kind != "histogram":
        raise KeyError(sample)
    return found


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=expressions())
def test_an_expression_asks_for_what_the_server_exports(where: str, expression: str) -> None:
    found = list(samples(expression))
    assert found, where
    for sample, selected in found:
        metric = metric_of(sample)
        own = {*metric.labels, *OF_THE_TARGET} | ({"le"} if sample.endswith("_bucket") else set())
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
        assert selected | grouped <= own, sample


@pytest.mark.parametrize("wrong", [":tensorflow:serving:requests", ":tensorflow:serving:request_latency"])
def test_a_name_that_is_not_exported_is_noticed(wrong: str) -> None:
    with pytest.raises(KeyError):
        metric_of(wrong)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        metric_of(sample).name
        for panel in dashboard.PANELS
        for expression in panel.lines
        for sample, _ in samples(expression)
    }
    assert shown == set(EXPORTED)


def test_the_dashboard_is_as_its_script_makes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert dashboard.main(["--check"]) == 0, capsys.readouterr().err
    made = dashboard.dashboard()
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]]
    assert len(set(places)) == len(places) == len(dashboard.PANELS)


def test_a_dashboard_that_differs_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dashboard.json"
    file.write_text("{}\n")
    monkeypatch.setattr(dashboard, "FILE", file)
    assert dashboard.main(["--check"]) == 1
    assert "dashboard.json is not what" in capsys.readouterr().err
    assert dashboard.main([]) == dashboard.main(["--check"]) == 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert re.fullmatch(r"\d+m", rule["for"])


def test_the_page_has_every_metric_and_alert() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "`" in line]
    told = {
        row[0].strip("`"): (row[1].partition(",")[0], re.findall(r"\w+", row[2]))
        for row in rows
        if len(row) == 3
    }
    assert told == {name: (metric.kind, list(metric.labels)) for name, metric in EXPORTED.items()}
    alerts = [row[0].strip("`") for row in rows if len(row) == 2]
    assert alerts == [rule["alert"] for rule in RULES]


def test_the_image_opens_what_the_pods_say_is_there(tmp_path: Path) -> None:
    assert outputs.METRICS_PATH == config.METRICS_PATH  # which is TensorFlow Serving's default
    file = tmp_path / "monitoring.config"
    file.write_bytes(build_context.MONITORING)
    assert config.read_monitoring(file) == config.Monitoring(True, outputs.METRICS_PATH)
    assert outputs.SCRAPED["prometheus.io/path"] == outputs.METRICS_PATH
    for name in build_context.DOCKERFILES.values():
        text = (ROOT / "infra/slipway/image" / name).read_text()
        (copied,) = re.findall(r"^COPY monitoring\.config (\S+)$", text, re.M)
        assert f" --monitoring_config_file={copied} " in text, name
