"""Ways to a pod's port: through an SSH tunnel over the control plane, or kubectl's port-forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from slipway.clients import ssh
from slipway.clients.kubectl import Kubectl
from slipway.core.types import Hosts, Replica


class Reach(Protocol):
    """How replicas are reached."""

    @property
    def words(self) -> str:
        """How, in words for people."""
        ...

    def to(self, replica: Replica, port: int) -> AbstractContextManager[tuple[str, int]]:
        """A local (host, port) that leads to a port of the replica as long as the block runs."""
        ...


@dataclass(frozen=True)
class OverSsh:
    """The pod network as one of its nodes sees it."""

    connection: ssh.Connection
    words: str

    def to(self, replica: Replica, port: int) -> AbstractContextManager[tuple[str, int]]:
        return self.connection.tunnel(replica.address, port)


@dataclass(frozen=True)
class OverKubectl:
    """Through the API server: the way into a cluster whose machines are not ours."""

    kubectl: Kubectl
    namespace: str
    words: str = "kubectl port-forward"

    def to(self, replica: Replica, port: int) -> AbstractContextManager[tuple[str, int]]:
        return self.kubectl.port_forward(self.namespace, replica.pod, port)


@contextmanager
def way_in(kubectl: Kubectl, namespace: str, hosts: Hosts | None) -> Iterator[Reach]:
    """The way to every replica: SSH where slipway made or was given the machines, else kubectl.

    Raises HostError when the control plane does not let us in.
    """
    control = hosts.group("control_plane") if hosts is not None else ()
    if hosts is None or not control:
        yield OverKubectl(kubectl, namespace)
        return
    first = control[0]
    words = f"an SSH tunnel over {first.name}"
    if first.connection == "local":
        words = f"the network of {first.name}, which is this machine"
    with ssh.connect(first) as connection:
        yield OverSsh(connection, words)
