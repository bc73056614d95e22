"""Kubernetes on one machine's LXD containers, as the setup by hand has it: made, proved, again, taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.contract.contract_lab import inventory
from tests.e2e.conftest import Project, new_project
from tests.playbooks.bare_host import BareHost, machine_with_lxd

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(2400)]

LXC = "LXD_CONF=/run/lxc lxc"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHost]:
    with machine_with_lxd(tmp_path_factory.mktemp("with-lxd")) as made:
        yield made


@pytest.fixture(scope="module")
def owner(machine: BareHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Somebody whose inventory names the machine with LXD; whatever happens no container is left on it."""
    folder = tmp_path_factory.mktemp("on-lxd")
    inventory(machine.hosts, folder, ("lxd",))
    project = new_project(folder, "hosts: {backend: lxd, inventory: machines.yml, workers: 2}\n")
    before = projects(machine)
    yield project
    assert project.run("down").code == 0
    assert projects(machine) == before


def projects(machine: BareHost) -> set[str]:
    return {one["name"] for one in json.loads(machine.on(f"{LXC} project list --format json"))}


def test_the_chain_runs_on_containers(owner: Project, machine: BareHost) -> None:
    done = owner.run("up")
    assert done.code == 0, done.err[-5000:]
    smoke = owner.report("smoke.json")
    assert smoke["ok"] and smoke["differences"] == 0
    assert {replica["node"] for replica in smoke["replicas"]} <= {"worker-1", "worker-2"}
    listed = json.loads(machine.on(f"{LXC} list --all-projects --format json"))
    assert {one["name"].partition("-")[2].partition("-")[2] for one in listed} == {
        "cp",
        "worker-1",
        "worker-2",
    }
    assert {one["status"] for one in listed} == {"Running"}

    again = owner.run("up")
    assert again.code == 0 and "nothing changed" in again.err, again.err[-4000:]


def test_its_nodes_are_the_containers(owner: Project) -> None:
    nodes = owner.get("nodes")["items"]
    inside = {
        address["address"]
        for node in nodes
        for address in node["status"]["addresses"]
        if address["type"] == "InternalIP"
    }
    assert len(inside) == 3 and all(address.startswith("10.79.0.") for address in inside)
