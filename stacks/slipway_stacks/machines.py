"""The component: the machines of one cluster, their network and their firewall, in any of the clouds.

Annotations stand as they are here and not as text: Pulumi reads them to describe the component to programs in
other languages.
"""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypedDict

import pulumi

from slipway_stacks import cloud_init, machine_inputs
from slipway_stacks.clouds import Machine, Make, Wanted
from slipway_stacks.kinds import InputsError
from slipway_stacks.machine_inputs import MachineInputs
from slipway_stacks.offers import OFFERS


class HostKey(TypedDict):
    """The key that a machine shows, as ssh-keygen makes it."""

    private: pulumi.Input[str]
    """In OpenSSH's format; becomes a secret, wherever it comes from."""
    public: str
    """`ssh-ed25519 AAAA...`"""


class MachinesArgs(TypedDict, total=False):
    """What machines are made from; the meanings and defaults are those of `machine_inputs.MachineInputs`.

    All of it decides which resources there are, so it is known before the program runs.
    """

    cloud: str | None
    """Where they are made: aws, google, azure, hetzner or openstack."""
    login_key: str | None
    """Public key of who logs in."""
    host_keys: dict[str, HostKey] | None
    """The key that each machine shall show, by its name: cp, worker-1 and so on."""
    allow: list[str] | None
    """Networks that SSH and the Kubernetes API are open to."""
    region: str | None
    """Region or location."""
    zone: str | None
    """Zone in the region."""
    size: str | None
    """The machines' size as the provider calls it."""
    image: str | None
    """The image, with Debian or Ubuntu and cloud-init in it."""
    disk: int | None
    """GB of each machine's disk."""
    workers: int | None
    """Worker nodes beside the control plane."""
    user: str | None
    """Who logs in."""
    external_network: str | None
    """OpenStack's network that floating addresses come from."""
    folder: str | None
    """Machines on this computer: where they are kept."""


class Machines(pulumi.ComponentResource):
    """Machines that Ansible can take: reached with a key that is known before they are made.

    One is the control plane, the others are workers. SSH and the Kubernetes API are open to the networks that
    are named, and what the cluster's machines need of each other to them.
    """

    inventory: pulumi.Output[dict[str, Any]]
    """The machines as an Ansible inventory, with the keys they show."""

    def __init__(self, name: str, args: MachinesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Raises InputsError for wrong arguments, all of them at once, before any resource is made.

        Raises ModuleNotFoundError, which names it, where the provider's SDK is not installed.
        """
        inputs, keys = settle(args)
        assert inputs.cloud is not None  # settle found one
        super().__init__("slipway:index:Machines", name, {}, opts)
        make: Make = importlib.import_module(OFFERS[inputs.cloud].module).make
        machines = [
            Machine(
                one,
                machine_inputs.groups(one),
                machine_inputs.address(number),
                _user_data(f"{name}-{one}", inputs, keys.get(one)),
            )
            for number, one in enumerate(inputs.names)
        ]
        reached = make(Wanted(name, inputs, machines, self))
        self.inventory = pulumi.Output.from_input(_inventory(inputs, machines, keys, reached))
        self.register_outputs({"inventory": self.inventory})


def settle(args: Mapping[str, Any]) -> tuple[MachineInputs, Mapping[str, HostKey]]:
    """The inputs and host keys that arguments stand for. Raises InputsError with every problem at once."""
    keys = {item.name: item.metadata["key"] for item in fields(MachineInputs)}
    given = {keys.get(name, name): value for name, value in args.items() if value is not None}
    host_keys: Mapping[str, HostKey] = given.pop("host_keys", {})
    where = "arguments of the Machines"
    inputs = machine_inputs.read(given, where)
    lacking = [name for name in inputs.names if name not in host_keys] if inputs.cloud != "here" else []
    if lacking:
        raise InputsError((f"host_keys: missing for {', '.join(lacking)}",), where)
    return inputs, host_keys


def _user_data(hostname: str, inputs: MachineInputs, key: HostKey | None) -> pulumi.Output[str]:
    if key is None:
        return pulumi.Output.from_input("")
    public, files = key["public"], OFFERS[str(inputs.cloud)].files
    return pulumi.Output.secret(key["private"]).apply(
        lambda private: cloud_init.user_data(
            hostname,
            inputs.user,
            inputs.login_key,
            host_key=private,
            host_key_public=public,
            files=files,
        )
    )


def _inventory(
    inputs: MachineInputs,
    machines: list[Machine],
    keys: Mapping[str, HostKey],
    reached: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The machines as Ansible reads them; what a cloud says of one wins over what follows from the inputs."""
    children: dict[str, Any] = {}
    for machine in machines:
        known = {"slipway_host_key": keys[machine.name]["public"]} if machine.name in keys else {}
        own = {"ansible_user": inputs.user, **known, **reached[machine.name]}
        for group in machine.groups:
            children.setdefault(group, {"hosts": {}})["hosts"][machine.name] = own
    return {"all": {"children": children}}
