"""The machines of a cluster in every cloud: what is made, who gets in, what is secret, and where Ansible finds them."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from google.protobuf import json_format
from pulumi.runtime.mocks import MockMonitor
from slipway_stacks import ports
from slipway_stacks.kinds import InputsError
from slipway_stacks.machines import Machines, MachinesArgs, settle
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


SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}  # Pulumi's mark


def told(value: Any) -> Any:
    """A value as it is, without the marks of what in it is secret."""
    if isinstance(value, dict):
        if SECRET.items() <= value.items():
            return told(value["value"])
        return {key: told(held) for key, held in value.items()}
    return [told(one) for one in value] if isinstance(value, list) else value


class Provider(pulumi.runtime.Mocks):
    """Makes every resource as it was asked for, with the numbers and addresses that providers give."""

    def __init__(self) -> None:
        self.made: Made = []
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        self.asked.append((args.token, dict(args.args)))
        return {**args.args, "id": "found", "name": "found"}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.made.append((args.typ, args.name, told(args.inputs)))
        number = str(len(self.made))
        addresses = dict.fromkeys(("ipv4Address", "publicIp", "address", "ipAddress"), f"198.51.100.{number}")
        given = {**args.inputs, **{key: value for key, value in addresses.items() if key not in args.inputs}}
        given.setdefault("allFixedIps", [])
        if args.typ.endswith("compute/instance:Instance") and args.typ.startswith("gcp"):
            interface = dict(given["networkInterfaces"][0])
            interface["accessConfigs"] = [{"natIp": f"198.51.100.{number}"}]
            given["networkInterfaces"] = [interface]
        return number, given


class Monitor(MockMonitor):
    """Keeps what the engine would be sent."""

    def __init__(self, mocks: pulumi.runtime.Mocks) -> None:
        super().__init__(mocks)
        self.sent: dict[str, Any] = {}
        self.ignored: dict[str, list[str]] = {}

    def RegisterResource(self, request: Any) -> Any:
        self.sent[request.name] = json_format.MessageToDict(request.object)
        self.ignored[request.name] = list(request.ignoreChanges)
        return super().RegisterResource(request)


@dataclass
class Run:
    """What a program made, and the inventory that it told."""

    made: Made
    asked: list[tuple[str, dict[str, Any]]]
    monitor: Monitor
    inventory: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a type, by name."""
        return {name: inputs for typ, name, inputs in self.made if typ == kind}

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        children = self.inventory["all"]["children"].values()
        return {name: known for group in children for name, known in group["hosts"].items()}


def record(program: Callable[[], Any]) -> Run:
    """Run a program; the inventory is what the machines in it told, where it is handed on."""
    provider, found = Provider(), dict[str, Any]()

    def whole() -> Any:
        inventory = program()
        return inventory and inventory.apply(found.update)

    monitor, quiet = Monitor(provider), logging.Logger("quiet")
    pulumi.runtime.set_mocks(provider, project="theirs", preview=False, logger=quiet, monitor=monitor)
    pulumi.runtime.test(whole)()
    return Run(provider.made, provider.asked, monitor, found)


def run(cloud: str, **more: Any) -> Run:
    args = {"cloud": cloud, "login_key": LOGIN, "host_keys": KEYS, "allow": [MINE], **NEEDED.get(cloud, {})}
    return record(lambda: Machines("lab", MachinesArgs(**{**args, **more})).inventory)  # type: ignore[typeddict-item]


@pytest.fixture(scope="module", params=MADE_IN)
def made(request: pytest.FixtureRequest) -> tuple[str, Run]:
    return request.param, run(request.param)


MACHINE = {
    "aws": "aws:ec2/instance:Instance",
    "google": "gcp:compute/instance:Instance",
    "azure": "azure-native:compute:VirtualMachine",
    "hetzner": "hcloud:index/server:Server",
    "openstack": "openstack:compute/instance:Instance",
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


# -- who gets in ---------------------------------------------------------------------------------------------

Way = tuple[str, str, int, str]  # on every machine or the control plane's, protocol, port, from where
INSIDE = "10.80.0.0/24"


def of_aws(run_: Run) -> set[Way]:
    places = {number: name.removeprefix("lab-") for number, name in numbered(run_, "SecurityGroup")}
    return {
        (
            places[rule["securityGroupId"]].replace("-", "_"),
            rule["ipProtocol"],
            rule["fromPort"],
            rule.get("cidrIpv4") or f"inside:{places[rule['referencedSecurityGroupId']]}",
        )
        for rule in run_.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule").values()
    }


def of_google(run_: Run) -> set[Way]:
    return {
        (rule["targetTags"][0].removeprefix("lab-").replace("-", "_"), allow["protocol"], int(port), source)
        for rule in run_.of("gcp:compute/firewall:Firewall").values()
        for allow in rule["allows"]
        for port in allow["ports"]
        for source in rule.get("sourceRanges") or [f"inside:{rule['sourceTags'][0].removeprefix('lab-')}"]
    }


def of_azure(run_: Run) -> set[Way]:
    found: set[Way] = set()
    groups = run_.of("azure-native:network:NetworkSecurityGroup")
    for group in groups.values():
        *allowed, last = group["securityRules"]
        assert (last["access"], last["destinationPortRange"], last["sourceAddressPrefix"]) == (
            "Deny",
            "*",
            "*",
        )
        assert all(rule["priority"] < last["priority"] for rule in allowed)
        assert len({rule["priority"] for rule in allowed}) == len(allowed)
    of_every = {rule["name"] for rule in groups["lab-worker"]["securityRules"]}
    for group in groups.values():
        for rule in group["securityRules"][:-1]:
            place = "every" if rule["name"] in of_every else "control_plane"
            sources = rule["sourceAddressPrefixes"]
            said = ["inside:every"] if sources == [INSIDE] else sources
            ways = {(place, rule["protocol"].lower(), int(rule["destinationPortRange"]), one) for one in said}
            found |= ways
    return found


def of_hetzner(run_: Run) -> set[Way]:
    return {
        (name.removeprefix("lab-").replace("-", "_"), rule["protocol"], int(rule["port"]), source)
        for name, firewall in run_.of("hcloud:index/firewall:Firewall").items()
        for rule in firewall["rules"]
        for source in rule["sourceIps"]
    }


def of_openstack(run_: Run) -> set[Way]:
    places = {number: name.removeprefix("lab-") for number, name in numbered(run_, "SecGroup")}
    rules = run_.of("openstack:networking/secGroupRule:SecGroupRule").values()
    assert all(group["deleteDefaultRules"] for group in run_.of(SEC_GROUP).values())
    return {
        (
            places[rule["securityGroupId"]].replace("-", "_"),
            rule["protocol"],
            rule["portRangeMin"],
            rule.get("remoteIpPrefix") or f"inside:{places[rule['remoteGroupId']]}",
        )
        for rule in rules
        if rule["direction"] == "ingress"
    }


SEC_GROUP = "openstack:networking/secGroup:SecGroup"
WAYS: dict[str, Callable[[Run], set[Way]]] = {
    "aws": of_aws,
    "google": of_google,
    "azure": of_azure,
    "hetzner": of_hetzner,
    "openstack": of_openstack,
}


def numbered(run_: Run, kind: str) -> list[tuple[str, str]]:
    """The identity that the provider gave each resource of a kind, and its name."""
    return [
        (str(number), name)
        for number, (typ, name, _) in enumerate(run_.made, 1)
        if typ.rpartition(":")[2] == kind
    ]


def test_a_firewall_opens_the_tables_ports_and_no_other(made: tuple[str, Run]) -> None:
    cloud, run_ = made
    outside = {(one.on, one.protocol, one.port, MINE) for one in ports.OPENINGS if one.outside}
    inside = {(one.on, one.protocol, one.port, "inside:every") for one in ports.OPENINGS if one.inside}
    # Hetzner's firewalls do not reach into a private network
    assert WAYS[cloud](run_) == (outside if cloud == "hetzner" else outside | inside)
    assert {(port, source) for _, _, port, source in WAYS[cloud](run_) if source == MINE} == {
        (22, MINE),
        (6443, MINE),
        (5000, MINE),
    }


def test_the_openings_are_those_of_the_manuals_table() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").partition("## Ports")[2]
    rows = re.findall(r"^\| ([\d, to]+)(?:/(tcp|udp))? \| ([a-z ]+?) \| (.*?) \|", page, re.M)
    listed = {
        (int(port), protocol): (on, who)
        for numbers, protocol, on, who in rows
        for port in numbers.replace("to", ",").split(",")
    }
    places = {"every host": "every", "every node": "every", "control plane": "control_plane"}
    places |= {"registry": "control_plane"}  # the control plane's machine is the registry
    for one in ports.OPENINGS:
        on, who = listed.pop((one.port, one.protocol))
        assert places[on] == one.on
        assert one.outside is ("this controller" in who)
    # etcd, kube-proxy's health and published models: nobody, unless somebody says otherwise
    assert {port for port, _ in listed} == {2379, 2380, 10256, 30000, 32767}


@pytest.mark.parametrize("cloud", MADE_IN)
def test_what_everybody_could_reach_is_refused(cloud: str) -> None:
    for allow in ([], ["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["::/0"], ["203.0.113.7/24"]):
        with pytest.raises(InputsError) as caught:
            run(cloud, allow=allow)
        assert any(problem.startswith("allow: ") for problem in caught.value.problems), allow


# -- what is secret, and what lasts ----------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """What of a message is not marked as a secret."""
    if isinstance(value, dict):
        if SECRET.items() <= value.items():
            return None
        return {key: plain(held) for key, held in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def test_the_private_half_of_a_host_key_is_sent_as_a_secret_and_once(made: tuple[str, Run]) -> None:
    _, run_ = made
    with_keys = {name for name, sent in run_.monitor.sent.items() if holds(sent, CANARY)}
    assert with_keys == {f"lab-{name}" for name in NAMES}
    assert not holds(plain(run_.monitor.sent), CANARY)
    assert CANARY not in texts(run_.inventory)


def holds(value: Any, canary: str) -> bool:
    """Whether a text in there has the canary in it, as it is or in base64."""
    if isinstance(value, dict):
        return any(holds(one, canary) for one in value.values())
    if isinstance(value, list):
        return any(holds(one, canary) for one in value)
    if not isinstance(value, str):
        return False
    with contextlib.suppress(ValueError):
        return canary in base64.b64decode(value, validate=True).decode()
    return canary in value


def test_what_the_first_boot_read_and_a_newer_image_make_no_machine_anew(made: tuple[str, Run]) -> None:
    cloud, run_ = made
    for name in NAMES:
        ignored = " ".join(run_.monitor.ignored[f"lab-{name}"]).lower()
        assert re.search("user-?data|customdata", ignored), cloud
        assert re.search("image|ami", ignored), cloud


def test_everything_that_can_says_whose_it_is(made: tuple[str, Run]) -> None:
    _, run_ = made
    held = ("tags", "labels", "metadata")
    marked = [
        name for _, name, inputs in run_.made if any("slipway" in texts(inputs.get(key)) for key in held)
    ]
    assert {f"lab-{name}" for name in NAMES} <= set(marked)


def test_disks_and_metadata_are_closed_where_that_is_a_flag() -> None:
    for inputs in run("aws").of(MACHINE["aws"]).values():
        assert inputs["rootBlockDevice"]["encrypted"] is True
        assert inputs["metadataOptions"] == {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
        }
    for inputs in run("google").of(MACHINE["google"]).values():
        assert inputs["metadata"]["block-project-ssh-keys"] == "TRUE"
        assert inputs["shieldedInstanceConfig"]["enableSecureBoot"] is True
        assert "serviceAccount" not in inputs


def test_an_image_is_looked_for_among_its_owners_and_one_with_an_id_is_not() -> None:
    looked = run("aws").asked
    assert looked[0][1]["owners"] == ["136693071363"]
    own = run("aws", image="ami-0123456789abcdef0", workers=0)
    assert own.asked == []
    assert {inputs["ami"] for inputs in own.of(MACHINE["aws"]).values()} == {"ami-0123456789abcdef0"}


# -- mistakes, and what is not installed ------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"cloud": "hetzner"}, ["loginKey: missing", "allow: missing"]),
    ({"login_key": LOGIN, "allow": [MINE]}, ["cloud: missing; expected one of aws, google"]),
    ({"cloud": "ibm", "login_key": LOGIN, "allow": [MINE]}, ["cloud: expected one of aws, google, azure"]),
    (
        {"cloud": "openstack", "login_key": LOGIN, "allow": [MINE]},
        ["size: missing", "image: missing", "externalNetwork: missing"],
    ),
    (
        {"cloud": "azure", "login_key": LOGIN, "allow": [MINE], "image": "debian-13"},
        ["image: expected publisher:offer:sku:version"],
    ),
    (
        {"cloud": "aws", "login_key": LOGIN, "allow": [MINE], "external_network": "x", "sise": "t3.large"},
        ["sise: unknown key; did you mean size?", "externalNetwork: only with cloud openstack"],
    ),
    (
        {"cloud": "aws", "login_key": LOGIN, "allow": [MINE], "host_keys": {"cp": KEYS["cp"]}},
        ["host_keys: missing for worker-1, worker-2"],
    ),
]


@pytest.mark.parametrize(("args", "problems"), WRONG)
def test_every_mistake_is_told_before_anything_is_made(args: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(InputsError) as caught:
        settle(args)
    found = caught.value.problems
    assert len(found) == len(problems), found
    assert all(told.startswith(expected) for told, expected in zip(found, problems, strict=True)), found


def test_only_the_chosen_clouds_sdk_is_imported() -> None:
    code = (
        "import sys\nfrom slipway_stacks import machines, clouds, offers\n"
        "print([name for name in sys.modules if name.startswith('pulumi_')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# -- the program ------------------------------------------------------------------------------------------------


def program() -> None:
    runpy.run_path(str(ROOT / "stacks" / "machines" / "__main__.py"), run_name="__main__")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name, key in KEYS.items():
        (tmp_path / name).write_text(key["private"])
        (tmp_path / f"{name}.pub").write_text(key["public"] + "\n")
    return tmp_path


def test_the_program_reads_its_configuration_and_the_folder_of_keys(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"cloud": "hetzner", "allow": json.dumps([MINE]), "loginKey": LOGIN, "keys": str(keys)}
    monkeypatch.setenv(
        "PULUMI_CONFIG", json.dumps({f"slipway-machines:{key}": value for key, value in config.items()})
    )
    servers = record(program).of(MACHINE["hetzner"])
    assert set(servers) == {f"slipway-{name}" for name in NAMES}
    for name in NAMES:
        shown = yaml.safe_load(servers[f"slipway-{name}"]["userData"])["ssh_keys"]
        assert shown == {"ed25519_private": KEYS[name]["private"], "ed25519_public": KEYS[name]["public"]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"cloud": "hetzner", "sizes": "cx23"}, "sizes: unknown key; did you mean size?"),
        (
            {"cloud": "hetzner", "loginKey": LOGIN, "allow": '["198.51.100.0/24"]', "keys": "/nowhere"},
            "/nowhere/cp",
        ),
    ],
)
def test_the_program_tells_what_is_wrong(
    config: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PULUMI_CONFIG", json.dumps({f"slipway-machines:{key}": value for key, value in config.items()})
    )
    with pytest.raises(pulumi.RunError, match=re.escape(words)):
        record(program)


# -- what it costs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", [cloud for cloud, offer in OFFERS.items() if offer.prices])
def test_the_default_machines_have_a_price(cloud: str) -> None:
    offer = OFFERS[cloud]
    assert offer.prices is not None and offer.prices.region == offer.region
    three, six = (cost(cloud, str(offer.size), count, 30) for count in (3, 6))
    assert three is not None and six is not None
    assert six.an_hour == pytest.approx(2 * three.an_hour)
    assert three.an_hour >= 3 * offer.prices.machines[str(offer.size)]
    assert three.date and three.source.startswith("https://")


def test_of_a_size_nobody_has_a_price_for_none_is_told() -> None:
    assert cost("aws", "u-24tb1.metal", 3, 30) is None
    assert cost("openstack", "m1.medium", 3, 30) is None
