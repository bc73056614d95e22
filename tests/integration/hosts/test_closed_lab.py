"""The lab is closed: who reaches whom over TCP and UDP, with the firewalls owners have, until it is gone.

Everything happens in network namespaces made for it (private_network.py); this machine's own is not touched.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slipway.core import process

from tests.conftest import can_make_hosts

pytestmark = pytest.mark.skipif(not can_make_hosts(), reason="network namespaces need root and Linux")
HERE = Path(__file__).parent
# A machine of its own: its network, the names of network namespaces, and the /sys that shows its interfaces.
MACHINE = """
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && mount -t sysfs sysfs /sys && exec "$@"
"""


@dataclass(frozen=True)
class Owner:
    """A machine as slipway may find it; see private_network.py."""

    firewall: str = "none"
    forwarding: str = "0"
    guests: str = "none"
    program: str = "iptables"

    def __str__(self) -> str:
        return f"{self.program}-{self.firewall}-{self.forwarding}-{self.guests}".replace(" ", "-")


OWNERS = (
    Owner(),
    Owner(forwarding="1"),
    Owner("drop"),
    Owner("drop", program="iptables-legacy"),
    Owner("ufw"),
    Owner("accept"),
    Owner("one", guests="bridge before"),
    Owner("drop", "1", guests="engine before"),
    Owner(guests="engine meanwhile"),
)
MACHINE_ADDRESSES = {"192.168.50.1", "198.51.100.1"}
GATEWAYS = {"both": {"10.77.0.1", "10.77.1.1"}, "second": {"10.77.1.1"}, "none": set[str]()}
LABS = {"a1": "a", "10.77.0.2": "a", "a2": "a", "10.77.0.3": "a", "b1": "b", "10.77.1.2": "b"}
GUESTS = {"c1", "c2", "172.17.0.2", "172.17.0.3"}
LAN = {"lan", "192.168.50.2", "192.168.50.3", "192.168.50.4"}


def meant(owner: Owner, phase: str, asker: str, to: str, port: str) -> bool:
    """Whether an answer is meant to come back; port as in "tcp/80"."""
    if asker == "machine":
        return True
    if asker == "192.168.50.77":
        return False  # a lab host with an address that is not its own
    if asker in LABS:
        return meant_for_lab(owner, asker, to, port)
    if to in MACHINE_ADDRESSES | GATEWAYS[phase]:
        return owner.firewall != "ufw"
    if to in LABS or to.startswith("10.77."):
        return False
    if asker in GUESTS and to in GUESTS:
        return True  # neighbours on the owner's bridge
    if asker in GUESTS:
        return owner.guests.startswith("engine")
    # from one interface of the owner's to another: as it would be without a lab
    if owner.guests == "engine meanwhile":
        return phase == "none"  # it stays on for the engine, and nothing of the owner's forbids it
    routes = owner.forwarding == "1" or (owner.firewall == "accept" and phase != "none")
    return routes and owner.firewall != "drop"


def meant_for_lab(owner: Owner, asker: str, to: str, port: str) -> bool:
    return (
        LABS.get(to) == LABS[asker]
        or to == "203.0.113.7"
        or (to == "203.0.113.99" and owner.firewall != "one")
        or (to == "192.168.50.1" and port in ("tcp/53", "udp/53"))  # the resolver
        or (to == "192.168.50.3" and port == "tcp/80")  # the mirror
        or to == "192.168.50.4"  # hosts.reach
    )


def measure(owner: Owner, folder: Path) -> Any:
    folder.mkdir()
    for name in ("", "-save", "-restore"):
        program = process.run(["sh", "-c", f"command -v {owner.program}{name}"]).stdout.strip()
        (folder / f"iptables{name}").symlink_to(program)
    machine = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", MACHINE, "sh"]
    asking = [sys.executable, str(HERE / "private_network.py")]
    found = [owner.firewall, owner.forwarding, owner.guests]
    done = process.run(
        [*machine, *asking, *found], env={"PATH": f"{folder}:{os.environ['PATH']}"}, timeout=120
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Owner, Future[Any]]]:
    """All at once: each waits most of the time for packets that must not come."""
    folder = tmp_path_factory.mktemp("owners")
    with ThreadPoolExecutor(max_workers=len(OWNERS)) as pool:
        yield {owner: pool.submit(measure, owner, folder / str(owner)) for owner in OWNERS}


@pytest.mark.parametrize("owner", OWNERS, ids=str)
def test_nobody_reaches_what_is_not_meant(owner: Owner, measured: dict[Owner, Future[Any]]) -> None:
    found = measured[owner].result()
    wrong: list[str] = []
    for phase, outcomes in found["asked"].items():
        for question, outcome in outcomes.items():
            who, port = question.rsplit(" ", 1)
            asker, to = who.split(" -> ")
            wanted = "answered" if meant(owner, phase, asker, to, port) else "closed"
            if outcome != wanted:
                wrong.append(f"{phase}: {question} is {outcome}, not {wanted}")
    assert wrong == []
    assert found["as_before"]
    assert found["needed_by"] == (["docker0"] if owner.guests == "engine meanwhile" else [])
