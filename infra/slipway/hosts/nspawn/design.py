"""The lab that settings ask for, on paper: names, addresses, and what this machine had before."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway.core.errors import EnvironmentFault, HostError
from slipway.core.schema import HostsSettings
from slipway.hosts import naming
from slipway.hosts.nspawn import network, sysctls
from slipway.hosts.nspawn.labs import Lab, LabHost, interface_name, lab_name


def design(
    state: Path,
    settings: HostsSettings,
    suite: str,
    made: Lab | None,
    labs: Sequence[Lab],
    *,
    cluster: Mapping[str, ipaddress.IPv4Network],
) -> Lab:
    """The lab of a state folder: its record `made` continued, or a new one on a free subnet.

    suite: for a new lab. labs: all on record. cluster: setting to network of the cluster that will run on it,
    which is kept apart from the lab's. Raises HostError when the settings differ from what `made` was made
    with, EnvironmentFault when no subnet is left for it.
    """
    name = lab_name(state)
    others = [lab for lab in labs if lab.name != name]
    if made is not None:
        _refuse_another(made, settings)
        _refuse_overlaps(made, cluster)
    subnet = ipaddress.IPv4Network(made.subnet) if made is not None else _free_subnet(settings, labs, cluster)
    names = naming.names(settings)
    if len(names) + 1 > subnet.num_addresses - 2:  # its first and last address are nobody's
        raise EnvironmentFault(
            f"subnet {subnet} is too small for {len(names)} hosts and a gateway",
            action="choose a larger hosts.subnet",
        )
    # with another lab up, what this machine had before its first one is in that lab's record
    before = made or next(iter(others), None)
    known = {host.name: host for host in made.hosts if host.name in names} if made is not None else {}
    taken = {host.address for host in known.values()}
    free = iter([index for index in range(1, len(names) + 1) if str(subnet[1 + index]) not in taken])
    return Lab(
        name=name,
        token=made.token if made is not None else uuid.uuid4().hex,
        state=state.resolve(),
        subnet=str(subnet),
        gateway=str(subnet[1]),
        mtu=made.mtu if made is not None else settings.mtu or network.default_mtu(),
        suite=made.suite if made is not None else suite,
        bridge=name,
        forward_chain=f"{name}-forward",
        nat_chain=f"{name}-nat",
        ip_forward_before=before.ip_forward_before if before else network.IP_FORWARD.read_text().strip(),
        interfaces_before=before.interfaces_before if before else network.interfaces(),
        modules_loaded=made.modules_loaded if made is not None else (),
        sysctls_before=sysctls.before(
            [*(lab.sysctls_before for lab in others), made.sysctls_before if made is not None else {}]
        ),
        hosts=tuple(known.get(host) or _host(name, host, next(free), subnet) for host in names),
    )


def _refuse_another(made: Lab, settings: HostsSettings) -> None:
    for what, have, want in (
        ("hosts.suite", made.suite, settings.suite),
        ("hosts.subnet", made.subnet, settings.subnet),
        ("hosts.mtu", str(made.mtu), str(settings.mtu) if settings.mtu is not None else None),
    ):
        if want is not None and want != have:
            raise HostError(
                f"this lab was made with {what} {have}, the settings say {want}",
                action="`slipway down` first: it cannot be changed under running hosts",
            )


def _refuse_overlaps(made: Lab, cluster: Mapping[str, ipaddress.IPv4Network]) -> None:
    for key, other in cluster.items():
        if other.overlaps(ipaddress.IPv4Network(made.subnet)):
            raise HostError(
                f"this lab's network {made.subnet} overlaps {other}, which {key} is: hosts would share "
                "addresses with pods or services",
                action=f"choose another {key}, or `slipway down` first: a lab's network is that of its hosts",
            )


def _free_subnet(
    settings: HostsSettings, labs: Sequence[Lab], cluster: Mapping[str, ipaddress.IPv4Network]
) -> ipaddress.IPv4Network:
    taken = network.in_use()
    taken += [network.Taken(ipaddress.IPv4Network(lab.subnet), f"the lab of {lab.state}") for lab in labs]
    taken += [network.Taken(other, key) for key, other in cluster.items()]
    return network.choose_subnet(settings.subnet, taken)


def _host(lab: str, name: str, index: int, subnet: ipaddress.IPv4Network) -> LabHost:
    """index: counted from 1, in order of addresses."""
    whole = f"{lab}-{name}"
    return LabHost(
        name=name,
        address=str(subnet[1 + index]),
        groups=naming.groups(name),
        machine=whole,
        machine_id=uuid.uuid4().hex,
        netns=whole,
        interface=interface_name(lab, index),
        root=Path(),
        unit=f"{whole}.service",
    )
