"""Machines in Azure: a resource group with everything in it.

Managed disks are always encrypted there.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_azure_native as azure

from slipway_stacks import ports
from slipway_stacks.clouds import Machine, Wanted
from slipway_stacks.machine_inputs import NETWORK
from slipway_stacks.ports import Opening, Place


def make(wanted: Wanted) -> Mapping[str, Mapping[str, Any]]:
    """See clouds.Make."""
    location, tags = wanted.inputs.region, wanted.tags
    group = azure.resources.ResourceGroup(
        f"{wanted.name}-group", location=location, tags=tags, opts=wanted.child()
    )
    network = azure.network.VirtualNetwork(
        f"{wanted.name}-network",
        resource_group_name=group.name,
        location=location,
        address_space={"address_prefixes": [str(NETWORK)]},
        tags=tags,
        # the subnet is a resource of its own, and to the network looks like a change
        opts=wanted.child(ignore_changes=["subnets"]),
    )
    subnet = azure.network.Subnet(
        f"{wanted.name}-subnet",
        resource_group_name=group.name,
        virtual_network_name=network.name,
        address_prefix=str(NETWORK),
        opts=wanted.child(),
    )
    # an interface has one group of rules, so the control plane's holds every machine's too
    rules = {
        "worker": _rules(wanted, group.name, "worker", ("every",)),
        "control_plane": _rules(wanted, group.name, "control-plane", ("every", "control_plane")),
    }
    reached = {}
    for machine in wanted.machines:
        of = rules["control_plane" if "control_plane" in machine.groups else "worker"]
        address = _machine(wanted, machine, group.name, subnet.id, of.id)
        reached[machine.name] = {"ansible_host": address, "kubernetes_node_address": machine.address}
    return reached


def _machine(
    wanted: Wanted,
    machine: Machine,
    group: pulumi.Output[str],
    subnet: pulumi.Output[str],
    rules: pulumi.Output[str],
) -> pulumi.Output[str]:
    """Make a machine; returns its address."""
    name, inputs, tags = f"{wanted.name}-{machine.name}", wanted.inputs, wanted.tags
    address = azure.network.PublicIPAddress(
        f"{name}-address",
        resource_group_name=group,
        location=inputs.region,
        sku={"name": "Standard"},
        public_ip_allocation_method="Static",
        tags=tags,
        opts=wanted.child(),
    )
    interface = azure.network.NetworkInterface(
        f"{name}-interface",
        resource_group_name=group,
        location=inputs.region,
        ip_configurations=[
            {
                "name": "only",
                "subnet": {"id": subnet},
                "private_ip_allocation_method": "Static",
                "private_ip_address": machine.address,
                "public_ip_address": {"id": address.id},
            }
        ],
        network_security_group={"id": rules},
        tags=tags,
        opts=wanted.child(),
    )
    publisher, offer, sku, version = str(inputs.image).split(":")
    azure.compute.VirtualMachine(
        name,
        resource_group_name=group,
        location=inputs.region,
        hardware_profile={"vm_size": inputs.size},
        os_profile={
            "computer_name": name,
            "admin_username": inputs.user,
            "custom_data": machine.user_data.apply(lambda text: base64.b64encode(text.encode()).decode()),
            "linux_configuration": {
                "disable_password_authentication": True,
                "ssh": {
                    "public_keys": [
                        {
                            "key_data": inputs.login_key,
                            "path": f"/home/{inputs.user}/.ssh/authorized_keys",
                        }
                    ]
                },
            },
        },
        storage_profile={
            "image_reference": {"publisher": publisher, "offer": offer, "sku": sku, "version": version},
            "os_disk": {
                "create_option": "FromImage",
                "disk_size_gb": inputs.disk,
                "managed_disk": {"storage_account_type": "StandardSSD_LRS"},
                "delete_option": "Delete",
            },
        },
        network_profile={"network_interfaces": [{"id": interface.id, "primary": True}]},
        tags=tags,
        opts=wanted.child(ignore_changes=["osProfile.customData", "storageProfile.imageReference"]),
    )
    reached: pulumi.Output[str] = address.ip_address.apply(str)
    return reached


def _rules(
    wanted: Wanted, group: pulumi.Output[str], name: str, places: tuple[Place, ...]
) -> azure.network.NetworkSecurityGroup:
    """A group of rules whose last one refuses what Azure's own would let in: all of the virtual network."""
    inputs = wanted.inputs
    allowed = [
        *((one, "outside", list(inputs.allow)) for place in places for one in ports.outside(place)),
        *((one, "inside", [str(NETWORK)]) for place in places for one in ports.inside(place)),
    ]
    rules = [
        _rule(f"{one.name}-{who}", 100 + 10 * number, "Allow", sources, one)
        for number, (one, who, sources) in enumerate(allowed)
    ]
    return azure.network.NetworkSecurityGroup(
        f"{wanted.name}-{name}",
        resource_group_name=group,
        location=inputs.region,
        security_rules=[*rules, _rule("nothing-else", 4096, "Deny", [], None)],
        tags=wanted.tags,
        opts=wanted.child(),
    )


def _rule(
    name: str, priority: int, access: str, sources: list[str], one: Opening | None
) -> azure.network.SecurityRuleArgs:
    return azure.network.SecurityRuleArgs(
        name=name,
        priority=priority,
        direction="Inbound",
        access=access,
        protocol=one.protocol.title() if one else "*",
        source_address_prefixes=sources if one else None,
        source_address_prefix=None if one else "*",
        source_port_range="*",
        destination_address_prefix="*",
        destination_port_range=str(one.port) if one else "*",
    )
