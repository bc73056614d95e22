"""Labs for the contract suite: one made with nspawn, and its machines used as if they were someone else's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slipway.artifacts import pulumi_cli
from slipway.core.schema import HostsSettings, Settings
from slipway.core.types import Hosts
from slipway.hosts import created
from slipway.hosts.created import Created
from slipway.hosts.existing import Existing
from slipway.hosts.lxd.backend import Lxd
from slipway.hosts.nspawn.backend import Nspawn
from slipway.hosts.vagrant import Vagrant

from tests.contract.contract_lab import Lab, inventory, listed, vagrant
from tests.lab_traces import traces
from tests.playbooks.bare_host import BareHost, machine_with_lxd


@pytest.fixture(scope="session")
def made_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Hosts]]:
    """One nspawn host for the whole session."""
    folder = tmp_path_factory.mktemp("made") / "state"
    lab = Lab(Nspawn(), Settings(hosts=HostsSettings(workers=0)), folder)
    try:
        yield lab, lab.up().value
    finally:
        lab.down()
        assert traces(lab.name) == []


@pytest.fixture(scope="session")
def existing_lab(made_lab: tuple[Lab, Hosts], tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Hosts]:
    """The same machine through an inventory."""
    folder = tmp_path_factory.mktemp("existing")
    path = inventory(made_lab[1], folder)
    lab = Lab(Existing(), Settings(hosts=HostsSettings(backend="ssh", inventory=path)), folder / "state")
    return lab, lab.up().value


@pytest.fixture(scope="session")
def vagrant_lab(
    made_lab: tuple[Lab, Hosts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, Hosts]]:
    """The same machine as Vagrant would tell of it, by a program of its name."""
    folder = tmp_path_factory.mktemp("vagrant")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{vagrant(made_lab[1], folder)}{os.pathsep}{os.environ['PATH']}")
        lab = Lab(Vagrant(), Settings(hosts=HostsSettings(backend="vagrant")), folder / ".slipway")
        yield lab, lab.up().value


@pytest.fixture(scope="session")
def created_lab(
    made_lab: tuple[Lab, Hosts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, Hosts]]:
    """The same machine as a stack would tell of it."""
    hosts = made_lab[1]
    settings = Settings(hosts=HostsSettings(backend="pulumi", cloud="here"))
    lab = Lab(Created(), settings, tmp_path_factory.mktemp("created") / ".slipway")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulumi_cli, "ensure_cli", lambda *_: "none")
        patch.setattr(created, "_engine", lambda *_: Stack({"inventory": listed(hosts)}))
        created.record(lab.ctx.state, created.Made("here", None, len(hosts.hosts), None, None))
        yield lab, lab.up().value


@dataclass
class Stack:
    """What the backend asks of Pulumi."""

    told: dict[str, Any]

    def outputs(self) -> dict[str, Any]:
        return self.told


@pytest.fixture(scope="session")
def lxd_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BareHost, Path]]:
    """A machine with LXD by its role, and the inventory that names it."""
    with machine_with_lxd(tmp_path_factory.mktemp("with-lxd")) as machine:
        yield machine, inventory(machine.hosts, tmp_path_factory.mktemp("lxd-inventory"), ("lxd",))


@pytest.fixture(scope="session")
def lxd_lab(
    lxd_machine: tuple[BareHost, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, Hosts]]:
    """One container for the whole session."""
    settings = HostsSettings(backend="lxd", inventory=lxd_machine[1], workers=0)
    lab = Lab(Lxd(), Settings(hosts=settings), tmp_path_factory.mktemp("lxd") / "state")
    try:
        yield lab, lab.up().value
    finally:
        lab.down()


@pytest.fixture(params=["nspawn", "lxd", "ssh", "vagrant", "pulumi"])
def ready(request: pytest.FixtureRequest) -> tuple[Lab, Hosts]:
    """Each backend in turn, its hosts up."""
    fixtures = {
        "nspawn": "made_lab",
        "lxd": "lxd_lab",
        "ssh": "existing_lab",
        "vagrant": "vagrant_lab",
        "pulumi": "created_lab",
    }
    name = fixtures[request.param]
    lab: tuple[Lab, Hosts] = request.getfixturevalue(name)
    return lab


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Labs of one test's own; taken down after it whatever happened, and looked for."""
    labs: list[Lab] = []

    def make(name: str = "state", cache: Path | None = None, **settings: object) -> Lab:
        hosts = HostsSettings.model_validate({"workers": 0, **settings})
        lab = Lab(Nspawn(), Settings(hosts=hosts), tmp_path / name, cache=cache)
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.down()
    assert [trace for lab in labs for trace in traces(lab.name)] == []
