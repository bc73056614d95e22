"""The ports that machines of a cluster have open, and to whom: the table of docs/cluster.md as data.

What is not here stays closed: etcd, which its own machine alone asks, kube-proxy's health, and the ports of
Services, which whoever publishes a model opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Place = Literal["every", "control_plane"]


@dataclass(frozen=True)
class Opening:
    """One port. on: every machine, or the control plane's, which is the registry too.

    outside: the networks that the user names come in. inside: the cluster's other machines do.
    """

    name: str
    protocol: Literal["tcp", "udp"]
    port: int
    on: Place
    outside: bool = False
    inside: bool = True


OPENINGS: Final = (
    Opening("ssh", "tcp", 22, "every", outside=True, inside=False),
    Opening("api", "tcp", 6443, "control_plane", outside=True),
    Opening("kubelet", "tcp", 10250, "every"),
    Opening("pod-network", "udp", 8472, "every"),
    Opening("registry", "tcp", 5000, "control_plane", outside=True),  # which slipway asks for images
    Opening("registry-pull", "tcp", 5001, "control_plane"),
)


def outside(place: Place) -> tuple[Opening, ...]:
    """What the networks that the user names reach on machines of this kind."""
    return tuple(one for one in OPENINGS if one.outside and one.on == place)


def inside(place: Place) -> tuple[Opening, ...]:
    """What the cluster's other machines reach on machines of this kind."""
    return tuple(one for one in OPENINGS if one.inside and one.on == place)
