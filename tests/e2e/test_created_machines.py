"""Machines that Pulumi makes, on this computer in a cloud's place: made, provisioned, proved, taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway.hosts.nspawn.labs import lab_name

from tests.e2e.conftest import Project, new_project
from tests.lab_traces import traces

pytestmark = [pytest.mark.lab, pytest.mark.engine]

SETTINGS = """
hosts: {backend: pulumi, cloud: here, workers: 1}
deploy: {replicas: 2}
"""


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Somebody with an account, as far as it goes here; whatever happens nothing is left."""
    folder = tmp_path_factory.mktemp("owner")
    project = new_project(folder)
    project.configure(SETTINGS)
    yield project
    project.run("hosts", "destroy")
    assert traces(lab_name(project.state / "machines" / "here")) == []


def test_machines_are_made_proved_and_taken_away(owner: Project) -> None:
    nobody = owner.run("up")
    assert nobody.code == 3 and "there are no machines yet" in nobody.err, nobody.err[-3000:]

    made = owner.run("hosts", "create", "--yes", "--json")
    assert made.code == 0, made.err[-5000:]
    assert "2 machines in this computer" in made.err
    assert made.document()["changed"] == ["create Resource slipway-lab"]

    done = owner.run("up")
    assert done.code == 0, done.err[-5000:]
    smoke = owner.report("smoke.json")
    assert smoke["ok"] and smoke["differences"] == 0
    assert {replica["node"] for replica in smoke["replicas"]} == {"worker-1"}

    again = owner.run("hosts", "create", "--yes", "--json")
    assert again.code == 0 and again.document()["changed"] == [], again.err[-3000:]

    assert owner.run("down").code == 0
    host = json.loads(owner.run("hosts", "up", "--json").out)["hosts"][0]
    assert host["name"] == "cp"  # `down` has left them

    gone = owner.run("hosts", "destroy", "--json")
    assert gone.code == 0, gone.err[-3000:]
    assert "remove Resource slipway-lab" in gone.document()["removed"]
    assert not (owner.state / "machines").exists()
    assert not Path("/sys/class/net", lab_name(owner.state / "machines" / "here")).exists()
