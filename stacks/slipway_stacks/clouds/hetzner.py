"""Machines in Hetzner Cloud.

Its firewalls filter what comes from outside and nothing inside of a private network, where only the cluster's
own machines are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_hcloud as hcloud

from slipway_stacks import ports
from slipway_stacks.clouds import ONCE, Wanted
from slipway_stacks.machine_inputs import NETWORK
from slipway_stacks.ports import Place

_ZONES = {"ash": "us-east", "hil": "us-west", "sin": "ap-southeast"}  # of networks; the others are in Europe


def make(wanted: Wanted) -> Mapping[str, Mapping[str, Any]]:
    """See clouds.Make."""
    name, inputs, tags = wanted.name, wanted.inputs, wanted.tags
    # without one Hetzner makes a password and mails it
    key = hcloud.SshKey(
        f"{name}-login", name=name, public_key=inputs.login_key, labels=tags, opts=wanted.child()
    )
    network = hcloud.Network(
        f"{name}-network", name=name, ip_range=str(NETWORK), labels=tags, opts=wanted.child()
    )
    subnet = hcloud.NetworkSubnet(
        f"{name}-subnet",
        network_id=_number(network.id),
        type="cloud",
        ip_range=str(NETWORK),
        network_zone=_ZONES.get(str(inputs.region), "eu-central"),
        opts=wanted.child(),
    )
    apart = hcloud.PlacementGroup(f"{name}-apart", name=name, type="spread", labels=tags, opts=wanted.child())
    firewalls = {place: _firewall(wanted, place) for place in ("every", "control_plane")}
    servers = {
        machine.name: hcloud.Server(
            f"{name}-{machine.name}",
            name=f"{name}-{machine.name}",
            location=inputs.region,
            server_type=inputs.size,
            image=inputs.image,
            user_data=machine.user_data,
            ssh_keys=[key.id],
            firewall_ids=[_number(firewalls[place].id) for place in machine.places],
            networks=[
                # without alias_ips each `up` takes the machine out of the network and puts it in again
                {"network_id": _number(network.id), "ip": machine.address, "alias_ips": []}
            ],
            placement_group_id=_number(apart.id),
            labels=tags,
            opts=wanted.child(depends_on=[subnet], ignore_changes=[*ONCE, "sshKeys"]),
        )
        for machine in wanted.machines
    }
    return {
        machine.name: {
            "ansible_host": servers[machine.name].ipv4_address,
            "kubernetes_node_address": machine.address,
        }
        for machine in wanted.machines
    }


def _firewall(wanted: Wanted, place: Place) -> hcloud.Firewall:
    name = f"{wanted.name}-{place.replace('_', '-')}"
    return hcloud.Firewall(
        name,
        name=name,
        rules=[
            {
                "direction": "in",
                "protocol": one.protocol,
                "port": str(one.port),
                "source_ips": list(wanted.inputs.allow),
                "description": one.name,
            }
            for one in ports.outside(place)
        ],
        labels=wanted.tags,
        opts=wanted.child(),
    )


def _number(of: pulumi.Output[str]) -> pulumi.Output[int]:
    return of.apply(int)
