"""What users bring along is taken: machines over SSH, a cluster, a registry, a SavedModel."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway_stacks.outputs import Names

from tests.e2e.conftest import Project, new_project

pytestmark = pytest.mark.lab

HALF_PLUS_TWO = """
import sys, tensorflow as tf
class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": 0.5 * x + 2.0}
model = Model()
tf.saved_model.save(model, sys.argv[1], signatures={"serving_default": model.__call__})
"""


def inventory(owner: Project, groups: dict[str, list[str]]) -> dict[str, Any]:
    """An Ansible inventory of a lab's hosts as a stranger would write it."""
    hosts = {host["name"]: host for host in owner.value("hosts")["hosts"]}
    used = {name for names in groups.values() for name in names}
    children: dict[str, Any] = {
        group: {"hosts": {name: {} for name in names}} for group, names in groups.items()
    }
    return {
        "all": {
            "hosts": {
                name: {
                    "ansible_host": hosts[name]["address"],
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(owner.state / "ssh" / "id_ed25519"),
                    "slipway_host_key": hosts[name]["host_key"],
                }
                for name in sorted(used)
            },
            "children": children,
        }
    }


@pytest.fixture(scope="module")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "half_plus_two" / "7"
    subprocess.run(
        [sys.executable, "-c", HALF_PLUS_TWO, folder], check=True, capture_output=True, timeout=300
    )
    return folder.parent


@pytest.fixture(scope="module")
def guest(lab: Project, half_plus_two: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Somebody with a cluster, a registry, a build machine and a model of their own."""
    folder = tmp_path_factory.mktemp("guest")
    project = new_project(folder)
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory(lab, {"docker": ["cp"]})))
    requests = [
        {
            "method": "predict",
            "signature": "serving_default",
            "inputs": {"x": {"dtype": "float32", "shape": [3], "values": [1.0, 2.0, float(n)]}},
            "expected": {"y": {"dtype": "float32", "shape": [3], "values": [2.5, 3.0, 0.5 * n + 2.0]}},
        }
        for n in range(20)
    ]
    (folder / "requests.jsonl").write_text("".join(json.dumps(each) + "\n" for each in requests))
    registry = lab.value("provision")["registry"]
    project.configure(
        yaml.safe_dump(
            {
                "hosts": {"backend": "ssh", "inventory": "inventory.yml"},
                "cluster": {"kubeconfig": str(lab.state / "kubeconfig")},
                "image": {
                    "registry": registry["address"],
                    "repository": "guest/half-plus-two",
                    "username": registry["username"],
                    "password_file": registry["password_file"],
                    "ca_file": registry["ca_file"],
                },
                "model": {"path": str(half_plus_two), "name": "half_plus_two"},
                "smoke": {"requests": "requests.jsonl"},
                "deploy": {"namespace": "guest", "replicas": 2},
            }
        )
    )
    return project


def test_an_existing_cluster_registry_machine_and_model(lab: Project, guest: Project) -> None:
    tasks_before = lab.get("nodes")["items"]
    done = guest.run("up")
    assert done.code == 0, done.err[-5000:]
    statuses = {stage["name"]: stage["status"] for stage in guest.report()["stages"]}
    assert statuses["provision"] == "not_run"
    assert statuses["model"] == "not_run"
    assert statuses["smoke"] in ("changed", "unchanged")
    smoke = guest.report("smoke.json")
    assert smoke["ok"]
    assert len({replica["pod"] for replica in smoke["replicas"]}) >= 2
    assert smoke["differences"] == 0
    deployment = lab.get("deployment", Names("half_plus_two").deployment, "-n", "guest")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert "/guest/half-plus-two@sha256:" in image
    assert [node["metadata"]["uid"] for node in lab.get("nodes")["items"]] == [
        node["metadata"]["uid"] for node in tasks_before
    ]


def test_a_wrong_expected_answer_fails_the_proof(guest: Project) -> None:
    path = guest.root / "requests.jsonl"
    good = path.read_text()
    path.write_text(good.replace("[2.5, 3.0, 2.0]", "[2.5, 3.0, 2.25]"))
    try:
        done = guest.run("smoke")
    finally:
        path.write_text(good)
    assert done.code == 1, done.err[-3000:]
    assert guest.report("smoke.json")["differences"] >= 2


def test_a_model_with_warm_up_requests_only(lab: Project, guest: Project, tmp_path: Path) -> None:
    """Its own warm-up requests are what every replica must answer alike."""
    exported = Path(lab.value("model")["path"])
    copy = tmp_path / "mine" / "3"
    shutil.copytree(exported, copy)
    for extra in ("requests.jsonl", "slipway.json"):
        (copy / "assets.extra" / extra).unlink()
    settings = yaml.safe_load((guest.root / "slipway.yaml").read_text())
    before = (guest.root / "slipway.yaml").read_text()
    settings["model"] = {"path": str(copy.parent), "name": "mine"}
    settings["smoke"] = {}
    guest.configure(yaml.safe_dump(settings))
    try:
        done = guest.run("up")
        assert done.code == 0, done.err[-5000:]
        smoke = guest.report("smoke.json")
        assert smoke["ok"]
        assert smoke["requests"] > 0
        assert smoke["differences"] == 0
    finally:
        guest.configure(before)


def deployments(lab: Project) -> dict[str, Any]:
    """What is deployed in the guest's namespace, by name; what goes lingers until its pods have left."""
    return {
        item["metadata"]["name"]: item
        for item in lab.get("deployments", "-n", "guest")["items"]
        if "deletionTimestamp" not in item["metadata"]
    }


def test_two_models_each_deployed_and_proved(lab: Project, guest: Project, half_plus_two: Path) -> None:
    """In place of the single model before: that is taken away, for the settings do not name it any more."""
    settings = yaml.safe_load((guest.root / "slipway.yaml").read_text())
    del settings["model"], settings["image"]["repository"]
    settings["deploy"]["replicas"] = 1
    exported = str(Path(lab.value("model")["path"]).parent)
    settings["models"] = {
        "half_plus_two": {"model": {"path": str(half_plus_two)}, "smoke": settings.pop("smoke")},
        "mnist": {"model": {"path": exported}, "deploy": {"replicas": 2}},
    }
    guest.configure(yaml.safe_dump(settings))
    done = guest.run("up")
    assert done.code == 0, done.err[-5000:]
    half, mnist = Names("half_plus_two"), Names("mnist")
    assert set(deployments(lab)) == {half.deployment, mnist.deployment}
    assert {name: told["proven"] for name, told in guest.report()["models"].items()} == {
        "half_plus_two": True,
        "mnist": True,
    }
    for name, replicas in (("half_plus_two", 1), ("mnist", 2)):
        smoke = guest.report(f"models/{name}/smoke.json")
        assert (smoke["ok"], smoke["differences"], len(smoke["replicas"])) == (True, 0, replicas)
    repositories = {
        item["spec"]["template"]["spec"]["containers"][0]["image"].partition("/")[2].partition("@")[0]
        for item in deployments(lab).values()
    }
    assert repositories == {f"slipway/{half.stem}", "slipway/mnist"}
    assert "proved:   model half_plus_two: 1 replicas" in done.err
    assert "proved:   model mnist: 2 replicas" in done.err


def test_a_model_that_is_taken_out_goes_and_no_other(lab: Project, guest: Project) -> None:
    before = deployments(lab)
    settings = yaml.safe_load((guest.root / "slipway.yaml").read_text())
    del settings["models"]["mnist"]
    guest.configure(yaml.safe_dump(settings))
    assert "mnist: take away mnist-deployment" in guest.run("preview").out
    done = guest.run("up")
    assert done.code == 0, done.err[-5000:]
    half = Names("half_plus_two")
    after = deployments(lab)
    assert list(after) == [half.deployment]
    assert after[half.deployment]["metadata"]["uid"] == before[half.deployment]["metadata"]["uid"]
    mine = {"app": half.server}.items()
    left = lab.get("services,pods,poddisruptionbudgets,networkpolicies", "-n", "guest")["items"]
    assert all(
        mine <= item["metadata"]["labels"].items() or "deletionTimestamp" in item["metadata"] for item in left
    )
    assert lab.get("secret", "registry-login", "-n", "guest")
    (gone,) = [stage for stage in guest.report()["stages"] if stage.get("model") == "mnist"]
    assert (gone["name"], gone["status"]) == ("deploy", "changed")
    assert {row["model"] for row in guest.run("status", "--json").document()["replicas"]} == {"half_plus_two"}


def test_down_of_a_guest_takes_its_deployment_and_nothing_else(lab: Project, guest: Project) -> None:
    done = guest.run("down")
    assert done.code == 0, done.err
    names = {item["metadata"]["name"] for item in lab.get("namespaces")["items"]}
    assert "guest" not in names or not lab.get("pods", "-n", "guest")["items"]
    assert lab.get("deployment", "mnist-deployment", "-n", "serving")["status"]["readyReplicas"] == 3
    assert [host["state"] for host in lab.run("status", "--json").document()["hosts"]] == ["running"] * 3


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Two bare machines that somebody else made."""
    owner = new_project(tmp_path_factory.mktemp("strangers"), "hosts: {workers: 1}\n")
    try:
        made = owner.run("hosts", "up")
        assert made.code == 0, made.err[-4000:]
        yield owner
    finally:
        owner.take_down()


def test_existing_machines_over_ssh(strangers: Project, tmp_path: Path) -> None:
    project = new_project(
        tmp_path / "mine", "hosts: {backend: ssh, inventory: inventory.yml}\ndeploy: {replicas: 1}\n"
    )
    groups = {"control_plane": ["cp"], "worker": ["worker-1"], "docker": ["cp"], "registry": ["cp"]}
    (project.root / "inventory.yml").write_text(yaml.safe_dump(inventory(strangers, groups)))
    done = project.run("up")
    assert done.code == 0, done.err[-5000:]
    assert project.report("smoke.json")["ok"]
    assert len(project.get("nodes")["items"]) == 2
    assert project.run("down").code == 0
    assert [host["state"] for host in strangers.run("status", "--json").document()["hosts"]] == [
        "running"
    ] * 2
