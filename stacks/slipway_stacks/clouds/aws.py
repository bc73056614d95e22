"""Machines in AWS: a VPC of their own, disks encrypted, the metadata service by its second version alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from slipway_stacks import ports
from slipway_stacks.clouds import Machine, Wanted
from slipway_stacks.machine_inputs import NETWORK
from slipway_stacks.ports import Opening, Place


def make(wanted: Wanted) -> Mapping[str, Mapping[str, Any]]:
    """See clouds.Make."""
    region, tags = wanted.inputs.region, wanted.tags
    vpc = aws.ec2.Vpc(
        f"{wanted.name}-network",
        region=region,
        cidr_block=str(NETWORK),
        enable_dns_hostnames=True,
        tags=tags,
        opts=wanted.child(),
    )
    # what every VPC comes with lets all machines in it reach each other; emptied, nobody uses it unseen
    aws.ec2.DefaultSecurityGroup(
        f"{wanted.name}-closed", region=region, vpc_id=vpc.id, tags=tags, opts=wanted.child()
    )
    gateway = aws.ec2.InternetGateway(
        f"{wanted.name}-gateway", region=region, vpc_id=vpc.id, tags=tags, opts=wanted.child()
    )
    subnet = aws.ec2.Subnet(
        f"{wanted.name}-subnet",
        region=region,
        availability_zone=wanted.inputs.zone,
        vpc_id=vpc.id,
        cidr_block=str(NETWORK),
        tags=tags,
        opts=wanted.child(),
    )
    routes = aws.ec2.RouteTable(
        f"{wanted.name}-routes",
        region=region,
        vpc_id=vpc.id,
        routes=[{"cidr_block": "0.0.0.0/0", "gateway_id": gateway.id}],
        tags=tags,
        opts=wanted.child(),
    )
    way_out = aws.ec2.RouteTableAssociation(
        f"{wanted.name}-way-out",
        region=region,
        subnet_id=subnet.id,
        route_table_id=routes.id,
        opts=wanted.child(),
    )
    groups = _security_groups(wanted, vpc.id)
    image = _image(wanted)
    instances = {
        machine.name: _instance(wanted, machine, image, subnet.id, groups, way_out=way_out)
        for machine in wanted.machines
    }
    return {
        machine.name: {
            "ansible_host": instances[machine.name].public_ip,
            "kubernetes_node_address": machine.address,
        }
        for machine in wanted.machines
    }


def _instance(
    wanted: Wanted,
    machine: Machine,
    image: pulumi.Input[str],
    subnet: pulumi.Output[str],
    groups: Mapping[Place, aws.ec2.SecurityGroup],
    *,
    way_out: pulumi.Resource,
) -> aws.ec2.Instance:
    name = f"{wanted.name}-{machine.name}"
    return aws.ec2.Instance(
        name,
        region=wanted.inputs.region,
        ami=image,
        instance_type=wanted.inputs.size,
        subnet_id=subnet,
        private_ip=machine.address,
        associate_public_ip_address=True,
        vpc_security_group_ids=[groups[place].id for place in machine.places],
        user_data=machine.user_data,
        # one hop: pods, which are a hop further, get no answer
        metadata_options={
            "http_endpoint": "enabled",
            "http_tokens": "required",
            "http_put_response_hop_limit": 1,
        },
        root_block_device={
            "encrypted": True,
            "volume_type": "gp3",
            "volume_size": wanted.inputs.disk,
            "tags": wanted.tags,
        },
        tags={**wanted.tags, "Name": name},
        opts=wanted.child(depends_on=[way_out], ignore_changes=["ami", "userData"]),
    )


def _image(wanted: Wanted) -> pulumi.Input[str]:
    """An AMI by its id, or the newest one of OWNER/NAME."""
    image = str(wanted.inputs.image)
    owner, _, pattern = image.partition("/")
    if not pattern:
        return image
    found: pulumi.Output[str] = aws.ec2.get_ami_output(
        region=wanted.inputs.region,
        owners=[owner],
        most_recent=True,
        filters=[{"name": "name", "values": [pattern]}],
        opts=pulumi.InvokeOptions(parent=wanted.parent),
    ).id
    return found


def _security_groups(wanted: Wanted, vpc: pulumi.Output[str]) -> Mapping[Place, aws.ec2.SecurityGroup]:
    region, tags = wanted.inputs.region, wanted.tags
    places: tuple[Place, ...] = ("every", "control_plane")
    groups: dict[Place, aws.ec2.SecurityGroup] = {}
    for place in places:
        groups[place] = aws.ec2.SecurityGroup(
            f"{wanted.name}-{place.replace('_', '-')}",
            region=region,
            vpc_id=vpc,
            description=f"slipway: {place.replace('_', ' ')}",
            tags=tags,
            opts=wanted.child(),
        )
    for place, group in groups.items():
        for one in ports.outside(place):
            for network in wanted.inputs.allow:
                _rule(wanted, one, group, f"from-{network}", cidr_ipv4=network)
        for one in ports.inside(place):
            _rule(wanted, one, group, "inside", referenced_security_group_id=groups["every"].id)
    aws.vpc.SecurityGroupEgressRule(
        f"{wanted.name}-out",
        region=region,
        security_group_id=groups["every"].id,
        ip_protocol="-1",
        cidr_ipv4="0.0.0.0/0",
        tags=tags,
        opts=wanted.child(),
    )
    return groups


def _rule(
    wanted: Wanted, one: Opening, group: aws.ec2.SecurityGroup, who: str, **source: pulumi.Input[str]
) -> None:
    aws.vpc.SecurityGroupIngressRule(
        f"{wanted.name}-{one.name}-{who}",
        region=wanted.inputs.region,
        security_group_id=group.id,
        ip_protocol=one.protocol,
        from_port=one.port,
        to_port=one.port,
        description=one.name,
        tags=wanted.tags,
        opts=wanted.child(),
        **source,
    )
