"""Machines in an OpenStack cloud: a network and a router of their own, each with a floating address.

A machine's disk is the one of its flavour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_openstack as openstack

from slipway_stacks import ports
from slipway_stacks.clouds import Machine, Wanted
from slipway_stacks.machine_inputs import NETWORK
from slipway_stacks.ports import Opening, Place


def make(wanted: Wanted) -> Mapping[str, Mapping[str, Any]]:
    """See clouds.Make."""
    region, tags = wanted.inputs.region, _tags(wanted)
    network = openstack.networking.Network(
        f"{wanted.name}-network", region=region, tags=tags, opts=wanted.child()
    )
    subnet = openstack.networking.Subnet(
        f"{wanted.name}-subnet",
        region=region,
        network_id=network.id,
        ip_version=4,
        cidr=str(NETWORK),
        tags=tags,
        opts=wanted.child(),
    )
    external = openstack.networking.get_network_output(
        name=str(wanted.inputs.external_network),
        external=True,
        region=region,
        opts=pulumi.InvokeOptions(parent=wanted.parent),
    )
    router = openstack.networking.Router(
        f"{wanted.name}-router",
        region=region,
        external_network_id=external.id,
        tags=tags,
        opts=wanted.child(),
    )
    way_out = openstack.networking.RouterInterface(
        f"{wanted.name}-way-out",
        region=region,
        router_id=router.id,
        subnet_id=subnet.id,
        opts=wanted.child(),
    )
    groups = _security_groups(wanted)
    return {
        machine.name: {
            "ansible_host": _machine(wanted, machine, network.id, subnet.id, groups, way_out=way_out),
            "kubernetes_node_address": machine.address,
        }
        for machine in wanted.machines
    }


def _machine(
    wanted: Wanted,
    machine: Machine,
    network: pulumi.Output[str],
    subnet: pulumi.Output[str],
    groups: Mapping[Place, openstack.networking.SecGroup],
    *,
    way_out: pulumi.Resource,
) -> pulumi.Output[str]:
    """Make a machine; returns its floating address."""
    name, inputs = f"{wanted.name}-{machine.name}", wanted.inputs
    port = openstack.networking.Port(
        f"{name}-port",
        region=inputs.region,
        network_id=network,
        fixed_ips=[{"subnet_id": subnet, "ip_address": machine.address}],
        security_group_ids=[groups[place].id for place in machine.places],
        tags=_tags(wanted),
        opts=wanted.child(),
    )
    instance = openstack.compute.Instance(
        name,
        name=name,
        region=inputs.region,
        availability_zone=inputs.zone,
        flavor_name=inputs.size,
        image_name=inputs.image,
        user_data=machine.user_data,
        config_drive=True,
        networks=[{"port": port.id}],
        metadata=wanted.tags,
        opts=wanted.child(ignore_changes=["imageName", "imageId", "userData"]),
    )
    floating = openstack.networking.FloatingIp(
        f"{name}-address",
        region=inputs.region,
        pool=str(inputs.external_network),
        tags=_tags(wanted),
        opts=wanted.child(),
    )
    openstack.networking.FloatingIpAssociate(
        f"{name}-reached",
        region=inputs.region,
        floating_ip=floating.address,
        port_id=port.id,
        opts=wanted.child(depends_on=[instance, way_out]),
    )
    address: pulumi.Output[str] = floating.address
    return address


def _security_groups(wanted: Wanted) -> Mapping[Place, openstack.networking.SecGroup]:
    places: tuple[Place, ...] = ("every", "control_plane")
    groups: dict[Place, openstack.networking.SecGroup] = {}
    for place in places:
        groups[place] = openstack.networking.SecGroup(
            f"{wanted.name}-{place.replace('_', '-')}",
            region=wanted.inputs.region,
            description=f"slipway: {place.replace('_', ' ')}",
            delete_default_rules=True,
            tags=_tags(wanted),
            opts=wanted.child(),
        )
    for place, group in groups.items():
        for one in ports.outside(place):
            for network in wanted.inputs.allow:
                _rule(wanted, one, group, f"from-{network}", remote_ip_prefix=network)
        for one in ports.inside(place):
            _rule(wanted, one, group, "inside", remote_group_id=groups["every"].id)
    openstack.networking.SecGroupRule(
        f"{wanted.name}-out",
        region=wanted.inputs.region,
        security_group_id=groups["every"].id,
        direction="egress",
        ethertype="IPv4",
        opts=wanted.child(),
    )
    return groups


def _rule(
    wanted: Wanted,
    one: Opening,
    group: openstack.networking.SecGroup,
    who: str,
    **source: pulumi.Input[str],
) -> None:
    openstack.networking.SecGroupRule(
        f"{wanted.name}-{one.name}-{who}",
        region=wanted.inputs.region,
        security_group_id=group.id,
        direction="ingress",
        ethertype="IPv4",
        protocol=one.protocol,
        port_range_min=one.port,
        port_range_max=one.port,
        description=one.name,
        opts=wanted.child(),
        **source,
    )


def _tags(wanted: Wanted) -> list[str]:
    return [f"{key}={value}" for key, value in wanted.tags.items()]
