"""The alerts and the dashboard before Prometheus' own judge, promtool."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from slipway.core import process
from slipway.core.errors import CommandError

from docs.monitoring import dashboard

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "docs/monitoring/alerts.yml"
CASES = ROOT / "tests/cases/monitoring/alerts.yaml"


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed one, or that of the distribution's package, which is unpacked and not installed."""
    there = shutil.which("promtool")
    if there:
        return Path(there)
    folder = tmp_path_factory.mktemp("prometheus")
    process.run(["apt-get", "download", "prometheus"], cwd=folder, timeout=300)
    (package,) = folder.glob("*.deb")
    process.run(["dpkg-deb", "--extract", package, folder / "unpacked"], timeout=120)
    return folder / "unpacked/usr/bin/promtool"


def test_the_rules_are_rules(promtool: Path) -> None:
    said = process.run([promtool, "check", "rules", ALERTS], timeout=60).stdout
    count = len(yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"])
    assert f"SUCCESS: {count} rules found" in said


def test_every_alert_fires_when_it_must_and_no_sooner(promtool: Path, tmp_path: Path) -> None:
    shutil.copy(CASES, tmp_path / "cases.yml")
    rules = tmp_path / "alerts.yml"
    shutil.copy(ALERTS, rules)
    assert "SUCCESS" in process.run([promtool, "test", "rules", "cases.yml"], cwd=tmp_path, timeout=60).stdout
    cases = yaml.safe_load(CASES.read_text())["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
    rules.write_text(ALERTS.read_text().replace("> 0.01", "> 0.2"))
    with pytest.raises(CommandError):  # the cases notice another limit
        process.run([promtool, "test", "rules", "cases.yml"], cwd=tmp_path, timeout=60)


def test_the_dashboard_asks_in_prometheus_language(promtool: Path, tmp_path: Path) -> None:
    asked = [expression for panel in dashboard.PANELS for expression in panel.lines]
    filled = [re.sub(r"\$model", ".*", one.replace("$__rate_interval", "5m")) for one in asked]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(filled)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    said = process.run([promtool, "check", "rules", file], timeout=60).stdout
    assert f"SUCCESS: {len(rules)} rules found" in said
