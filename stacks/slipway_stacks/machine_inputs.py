"""The inputs of a cluster's machines, from the text of a stack's configuration or as values of a program.

The home of their defaults and of what each input accepts. Needs no engine.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from slipway_stacks import cloud_init, kinds
from slipway_stacks.kinds import InputsError, about
from slipway_stacks.offers import OFFERS, Cloud

WIDEST: Final = 8  # of the networks that may come in: a wider one is as good as everybody
NETWORK: Final = ipaddress.IPv4Network("10.80.0.0/24")  # apart from the cluster's pods, Services and labs
FIRST: Final = 10  # clouds keep the first addresses of a network for themselves

_REGION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:*@-]{0,254}")
_LOGIN: Final = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_KEY: Final = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}( [ -~]*)?")


def _network(value: Any) -> bool:
    try:
        return kinds.is_text(value) and ipaddress.IPv4Network(value).prefixlen >= WIDEST
    except ValueError:
        return False


_place = kinds.matching(_REGION, "a name as the provider has it")
_word = kinds.matching(_WORD, "a name as the provider has it")


@dataclass(frozen=True)
class MachineInputs:
    """What a cluster's machines are made from. In a stack's configuration a field is its metadata's key."""

    cloud: Cloud | None = field(
        default=None, metadata=about("cloud", kinds.one_of(Cloud), "where they are made; has no default")
    )
    region: str | None = field(
        default=None, metadata=about("region", _place, "region or location; each cloud has a default")
    )
    zone: str | None = field(
        default=None, metadata=about("zone", _place, "zone in the region, where the cloud has zones")
    )
    size: str | None = field(
        default=None, metadata=about("size", _word, "the machines' size as the provider calls it")
    )
    image: str | None = field(
        default=None, metadata=about("image", _word, "the image with Debian or Ubuntu and cloud-init in it")
    )
    disk: int = field(
        default=30, metadata=about("disk", kinds.integer(10, 2000), "GB of each machine's disk")
    )
    workers: int = field(
        default=2, metadata=about("workers", kinds.integer(0, 20), "worker nodes beside the control plane")
    )
    allow: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "allow",
            kinds.list_of(f"a list of IPv4 networks, /{WIDEST} or narrower, e.g. 203.0.113.7/32", _network),
            "networks that SSH and the Kubernetes API are open to; has no default",
        ),
    )
    user: str = field(
        default=cloud_init.USER,
        metadata=about("user", kinds.matching(_LOGIN, "a login of Linux"), "who logs in"),
    )
    login_key: str = field(
        default="",
        metadata=about(
            "loginKey",
            kinds.matching(_KEY, "a public key as ssh-keygen writes it"),
            "public key of who logs in",
        ),
    )
    external_network: str | None = field(
        default=None,
        metadata=about("externalNetwork", _word, "OpenStack's network that floating addresses come from"),
    )

    folder: str | None = field(
        default=None,
        metadata=about(
            "folder", kinds.matching(re.compile(r"/[ -~]+"), "a path"), "cloud here: where they are kept"
        ),
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The machines by name, the control plane first."""
        return ("cp", *(f"worker-{number}" for number in range(1, self.workers + 1)))


def groups(name: str) -> tuple[str, ...]:
    """The inventory groups of a machine."""
    return ("control_plane", "registry", "docker") if name == "cp" else ("worker",)


def address(number: int) -> str:
    """The private address of the machine of this number, counted from 0."""
    return str(NETWORK[FIRST + number])


def read(values: Mapping[str, Any], where: str = "stack configuration") -> MachineInputs:
    """Inputs by key, texts or what JSON makes of them, with the cloud's defaults in place of what is not set.

    Raises InputsError with every problem at once.
    """
    problems: list[str] = []
    found = kinds.taken(values, problems, of=MachineInputs)
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.given.items()
    }
    inputs = MachineInputs(**given)
    keys = {item.name: item.metadata["key"] for item in fields(MachineInputs)}
    problems += [
        f"{keys[name]}: missing; {what}"
        for name, what in _needed(inputs)
        if not getattr(inputs, name) and name not in found.refused
    ]
    if inputs.cloud not in (None, "openstack") and inputs.external_network is not None:
        problems.append(f"{keys['external_network']}: only with {keys['cloud']} openstack")
    if inputs.cloud == "azure" and inputs.image is not None and inputs.image.count(":") != 3:
        problems.append(f"{keys['image']}: expected publisher:offer:sku:version, not {inputs.image!r}")
    if problems:
        raise InputsError(tuple(problems), where)
    return with_defaults(inputs)


def texts(inputs: MachineInputs) -> dict[str, str]:
    """The same as configuration values, which `read` makes these inputs of; what is not set is left out."""
    found = {item.metadata["key"]: getattr(inputs, item.name) for item in fields(MachineInputs)}
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in found.items()
        if value not in (None, ())
    }


def _needed(inputs: MachineInputs) -> list[tuple[str, str]]:
    needed = [("cloud", f"expected one of {', '.join(OFFERS)}"), ("login_key", "who shall log in")]
    if inputs.cloud == "here":
        needed.append(("folder", "where the machines are kept"))
    else:
        needed.append(
            ("allow", "the networks that may reach SSH and the API, e.g. your own address as a /32")
        )
    if inputs.cloud == "openstack":
        needed += [
            ("size", "`openstack flavor list` shows what the cloud calls them"),
            ("image", "`openstack image list` shows what the cloud has"),
            ("external_network", "`openstack network list --external` shows it"),
        ]
    return needed


def with_defaults(inputs: MachineInputs) -> MachineInputs:
    """The same with the cloud's own region, zone, size and image where none is given.

    A region that is given has the zone `-b`, which nearly all of Google's have.
    """
    assert inputs.cloud is not None  # read found one
    offer = OFFERS[inputs.cloud]
    region = inputs.region or offer.region
    own = offer.zone if region == offer.region else f"{region}-b"
    return replace(
        inputs,
        region=region,
        zone=inputs.zone or (own if offer.zone else None),
        size=inputs.size or offer.size,
        image=inputs.image or offer.image,
    )
