"""Machines in Google Cloud: a network of their own, without the keys and roles of the project around them.

Disks are always encrypted there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_gcp as gcp

from slipway_stacks import ports
from slipway_stacks.clouds import Machine, Wanted
from slipway_stacks.machine_inputs import NETWORK
from slipway_stacks.ports import Opening, Place


def make(wanted: Wanted) -> Mapping[str, Mapping[str, Any]]:
    """See clouds.Make."""
    network = gcp.compute.Network(
        f"{wanted.name}-network", auto_create_subnetworks=False, opts=wanted.child()
    )
    subnet = gcp.compute.Subnetwork(
        f"{wanted.name}-subnet",
        region=wanted.inputs.region,
        network=network.id,
        ip_cidr_range=str(NETWORK),
        opts=wanted.child(),
    )
    places: tuple[Place, ...] = ("every", "control_plane")
    for place in places:
        name = f"{wanted.name}-{_tag(place)}"
        _firewall(f"{name}-outside", wanted, place, ports.outside(place), network.id)
        _firewall(f"{name}-inside", wanted, place, ports.inside(place), network.id, from_outside=False)
    instances = {machine.name: _instance(wanted, machine, subnet.id) for machine in wanted.machines}
    return {
        machine.name: {
            "ansible_host": instances[machine.name].network_interfaces.apply(_outer),
            "kubernetes_node_address": machine.address,
        }
        for machine in wanted.machines
    }


def _instance(wanted: Wanted, machine: Machine, subnet: pulumi.Output[str]) -> gcp.compute.Instance:
    return gcp.compute.Instance(
        f"{wanted.name}-{machine.name}",
        zone=wanted.inputs.zone,
        machine_type=wanted.inputs.size,
        boot_disk={
            "initialize_params": {
                "image": wanted.inputs.image,
                "size": wanted.inputs.disk,
                "type": "pd-balanced",
                "labels": wanted.tags,
            }
        },
        network_interfaces=[{"subnetwork": subnet, "network_ip": machine.address, "access_configs": [{}]}],
        metadata={
            "user-data": machine.user_data,
            "block-project-ssh-keys": "TRUE",
            "enable-oslogin": "FALSE",
            "serial-port-enable": "FALSE",
        },
        shielded_instance_config={
            "enable_secure_boot": True,
            "enable_vtpm": True,
            "enable_integrity_monitoring": True,
        },
        tags=[f"{wanted.name}-{_tag(place)}" for place in machine.places],
        labels=wanted.tags,
        opts=wanted.child(ignore_changes=["bootDisk.initializeParams.image", 'metadata["user-data"]']),
    )


def _firewall(
    name: str,
    wanted: Wanted,
    place: Place,
    openings: tuple[Opening, ...],
    network: pulumi.Output[str],
    *,
    from_outside: bool = True,
) -> None:
    """What is not allowed by a rule is refused: a network of one's own has none to begin with."""
    allow, every = list(wanted.inputs.allow), f"{wanted.name}-{_tag('every')}"
    gcp.compute.Firewall(
        name,
        network=network,
        direction="INGRESS",
        source_ranges=allow if from_outside else None,
        source_tags=None if from_outside else [every],
        target_tags=[f"{wanted.name}-{_tag(place)}"],
        allows=[{"protocol": one.protocol, "ports": [str(one.port)]} for one in openings],
        opts=wanted.child(),
    )


def _tag(place: Place) -> str:
    return place.replace("_", "-")


def _outer(interfaces: list[Any]) -> str:
    return str(interfaces[0].access_configs[0].nat_ip)
