"""A host that serves the model itself: from three verbs to answers that were asked for, without a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slipway.hosts.nspawn.labs import lab_name

from tests.e2e.conftest import Project
from tests.lab_traces import traces

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

SETTINGS = """\
hosts: {workers: 0, model_servers: 1, golden: false}
model: {epochs: 2}
"""
VERSION = "/var/lib/model-server/mnist/1"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("serve"))
    made.configure(SETTINGS)
    yield made
    done = made.run("down")
    assert done.code == 0, done.err[-4000:]
    assert traces(lab_name(made.state)) == []


def test_a_host_serves_the_model_and_is_asked(project: Project) -> None:
    for words in (("hosts", "up"), ("model", "export")):
        done = project.run(*words)
        assert done.code == 0, done.err[-4000:]
    done = project.run("serve")
    assert done.code == 0, done.err[-4000:]
    assert "mnist version 1 answers on model-server-1 as recorded" in done.err
    assert project.value("serve") == {"hosts": ["model-server-1"]}
    said = " ".join((project.latest / "evidence" / "model_server.log").read_text().split())
    assert "Inference error rate: " in said and "0 differ" in said


def test_again_it_changes_nothing(project: Project) -> None:
    done = project.run("serve", "--json")
    assert done.code == 0, done.err[-4000:]
    (stage,) = [stage for stage in done.document()["stages"] if stage["name"] == "serve"]
    assert (stage["status"], stage["changed"]) == ("unchanged", 0)


def test_a_model_that_was_damaged_there_is_brought_again(project: Project) -> None:
    spoilt = project.run(
        "hosts", "ssh", "model-server-1", "--", "sh", "-c", f"'echo x >{VERSION}/fingerprint.pb'"
    )
    assert spoilt.code == 0, spoilt.err[-4000:]
    done = project.run("serve", "--json")
    assert done.code == 0, done.err[-4000:]
    (stage,) = [stage for stage in done.document()["stages"] if stage["name"] == "serve"]
    assert stage["status"] == "changed"


def test_a_server_that_cannot_answer_is_told_with_its_own_words(project: Project) -> None:
    wrong = project.root / "wrong.jsonl"
    asked = (project.state / "models").glob("mnist/1/assets.extra/requests.jsonl")
    line = next(asked).read_text().splitlines()[0]
    wrong.write_text(line.replace('"signature":"predict_images"', '"signature":"nobody"') + "\n")
    done = project.run("serve", "--set", f"smoke.requests={wrong}")
    assert done.code == 4, done.err[-4000:]
    assert "model-server-1" in done.err and "nobody" in done.err
