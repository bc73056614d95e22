"""The machines of a cluster in every cloud: what is made, who gets in, what is secret, and where Ansible finds them."""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime.rpc import is_rpc_secret, unwrap_rpc_secret
from slipway_stacks import ports
from slipway_stacks.inputs import InputsError
from slipway_stacks.machines import Machines, MachinesArgs
from slipway_stacks.offers import CLOUDS, OFFERS, cost

ROOT = Path(__file__).parents[2]
MINE = "203.0.113.7/32"
LOGIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILOGIN slipway"
NAMES = ("cp", "worker-1", "worker-2")
KEYS = {name: {"private": f"PRIVATE-OF-{name}\n", "public": f"ssh-ed25519 AAAA{name}"} for name in NAMES}
CANARY = "PRIVATE-OF-"
MADE_IN = tuple(cloud for cloud in CLOUDS if cloud != "here")
# what a cloud has no default for
NEEDED: dict[str, dict[str, Any]] = {
    "openstack": {"size": "m1.medium", "image": "debian-13", "external_network": "public", "region": "one"}
}
pytestmark = pytest.mark.usefixtures("an_event_loop")
Made = list[tuple[str, str, dict[str, Any]]]


class Provider(pulumi.runtime.Mocks):
    """Makes every resource as it was asked for, with the numbers and addresses that providers give."""

    def __init__(self) -> None:
        self.made: Made = []
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        self.asked.append((args.token, dict(args.args)))
        return {**args.args, "id": "found", "name": "found"}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.made.append((args.typ, args.name, args.inputs))
        number = str(len(self.made))
        addresses = {
            key: f"198.51.100.{number}" for key in ("ipv4Address", "publicIp", "address", "ipAddress")
        }
        given = {**args.inputs, **{key: value for key, value in addresses.items() if key not in args.inputs}}
        given.setdefault("allFixedIps", [])
        if args.typ.endswith("compute/instance:Instance") and args.typ.startswith("gcp"):
            interface = dict(given["networkInterfaces"][0])
            interface["accessConfigs"] = [{"natIp": f"198.51.100.{number}"}]
            given["networkInterfaces"] = [interface]
        return number, given


@dataclass
class Run:
    """What a program made, and the inventory that it told."""

    made: Made
    asked: list[tuple[str, dict[str, Any]]]
    inventory: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a type, by name."""
        return {name: inputs for typ, name, inputs in self.made if typ == kind}

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        children = self.inventory["all"]["children"].values()
        return {name: known for group in children for name, known in group["hosts"].items()}


def run(cloud: str, **more: Any) -> Run:
    provider, told = Provider(), {}

    def program() -> Any:
        args = {"cloud": cloud, "login_key": LOGIN, "host_keys": KEYS, "allow": [MINE], **NEEDED.get(cloud, {})}
        machines = Machines("lab", MachinesArgs(**{**args, **more}))  # type: ignore[typeddict-item]  # of one dict
        return machines.inventory.apply(lambda inventory: told.update(inventory=inventory))

    pulumi.runtime.set_mocks(provider, project="theirs", preview=False, logger=logging.Logger("quiet"))
    pulumi.runtime.test(program)()
    return Run(provider.made, provider.asked, told["inventory"])


@pytest.fixture(scope="module", params=MADE_IN)
def made(request: pytest.FixtureRequest) -> tuple[str, Run]:
    return request.param, run(request.param)


MACHINE = {
    "hetzner": "hcloud:index/server:Server",
    "aws": "aws:ec2/instance:Instance",
}


def texts(value: Any) -> str:
    return json.dumps(value, default=str)


def test_every_machine_is_made_once_with_the_size_the_image_and_the_disk_asked_for(
    made: tuple[str, Run],
) -> None:
    cloud, run_ = made
    machines = run_.of(MACHINE[cloud])
    assert set(machines) == {f"lab-{name}" for name in NAMES}
    for inputs in machines.values():
        size = OFFERS[cloud].size or NEEDED[cloud]["size"]
        assert size in texts(inputs)


def test_ansible_finds_every_machine_by_its_outer_address_and_the_key_it_shows(made: tuple[str, Run]) -> None:
    _, run_ = made
    children = run_.inventory["all"]["children"]
    assert {group: sorted(found["hosts"]) for group, found in children.items()} == {
        "control_plane": ["cp"],
        "registry": ["cp"],
        "docker": ["cp"],
        "worker": ["worker-1", "worker-2"],
    }
    assert len({known["ansible_host"] for known in run_.hosts.values()}) == 3
    for number, (name, known) in enumerate(sorted(run_.hosts.items())):
        assert known["ansible_host"].startswith("198.51.100.")
        assert known["kubernetes_node_address"] == f"10.80.0.{10 + number}"
        assert known["slipway_host_key"] == KEYS[name]["public"]
        assert known["ansible_user"] == "slipway"
