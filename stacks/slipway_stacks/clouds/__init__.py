"""One file for each cloud: how machines, their network and their firewall are made there.

Each has `make(wanted)`, and is imported only when its cloud is chosen, for it imports the provider's SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from slipway_stacks.machine_inputs import MachineInputs
from slipway_stacks.ports import Place

# A machine is made once: what its first boot read, and which build of an image it was, does not make it anew
ONCE = ("image", "user_data")


@dataclass(frozen=True)
class Machine:
    """One machine to make. address: its private one. user_data: a secret, for a host key is in it."""

    name: str
    groups: tuple[str, ...]
    address: str
    user_data: pulumi.Output[str]

    @property
    def places(self) -> tuple[Place, ...]:
        """Which openings it has."""
        return ("every", "control_plane") if "control_plane" in self.groups else ("every",)


@dataclass(frozen=True)
class Wanted:
    """What a cloud is asked for. name: what everything is called after."""

    name: str
    inputs: MachineInputs
    machines: Sequence[Machine]
    parent: pulumi.Resource

    def child(self, **more: Any) -> pulumi.ResourceOptions:
        """Options of each resource."""
        return pulumi.ResourceOptions(parent=self.parent, **more)

    @property
    def tags(self) -> dict[str, str]:
        """What everything carries that can: who made it, and for which cluster."""
        return {"managed-by": "slipway", "cluster": self.name}


Make = Callable[[Wanted], Mapping[str, Mapping[str, Any]]]
"""Makes machines; returns by name how each is reached from outside, as variables of an Ansible inventory."""
