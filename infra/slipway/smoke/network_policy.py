"""Whether the cluster keeps a replica from what its NetworkPolicy forbids, tried from the replicas."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from slipway.clients.kubectl import Kubectl
from slipway.core.errors import SlipwayError
from slipway.core.schema import Settings
from slipway.core.types import Cluster, Endpoints, Gate, Replica

NAME = "network_policy"
NOT_ENFORCED = "not enforced"
NOT_PROVEN = "not proven"
_AT_ONCE = 8
FROM_OF_MANY = 8  # each trial is a program in a container, and the policy is the same for every replica
# What a policy forbids is dropped or refused; what it allows is a round trip within the cluster.
_ANSWER_SECONDS = 2
_METADATA = "169.254.169.254"  # where clouds hand out a machine's credentials

# Runs in the replica's container with nothing but Python's library: connects to all places at once, looks up
# the names, and prints what became of each. A place without an address is the API server as pods know it.
_PROGRAM = """
import json, os, socket, sys, threading
asked = json.loads(sys.argv[1])
said = {}
def connect(place, host, port):
    try:
        host = host or os.environ["KUBERNETES_SERVICE_HOST"]
        port = port or int(os.environ["KUBERNETES_SERVICE_PORT"])
        socket.create_connection((host, port), asked["seconds"]).close()
        said[place] = ""
    except Exception as error:
        said[place] = str(error) or type(error).__name__
def resolve(name):
    try:
        socket.getaddrinfo(name, None)
        said[name] = ""
    except Exception as error:
        said[name] = str(error) or type(error).__name__
threads = [threading.Thread(target=connect, args=one, daemon=True) for one in asked["places"]]
threads += [threading.Thread(target=resolve, args=[name], daemon=True) for name in asked["names"]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(asked["seconds"] + 8)
print(json.dumps({"said": said}), flush=True)
os._exit(0)
"""


@dataclass(frozen=True)
class Place:
    """Somewhere a connection may go. host and port empty: the API server's own Service.

    own: it is the node the replica runs on, to which Kubernetes lets an enforcer leave the way open.
    """

    name: str
    host: str = ""
    port: int = 0
    own: bool = False


@dataclass(frozen=True)
class Seen:
    """What one replica could do.

    reached: forbidden places that answered; reached_own: those on its own node. proof: whether the API
    server, which answers whoever may ask it, was tried on another node. missed: allowed places that did not
    answer, with the reason. error: why the replica could not be asked, empty when it could.
    """

    replica: Replica
    reached: tuple[str, ...] = ()
    reached_own: tuple[str, ...] = ()
    proof: bool = True
    missed: tuple[str, ...] = ()
    error: str = ""


def forbidden(cluster: Cluster, replica: Replica) -> list[Place]:
    """What this replica has no business with: API server, kubelet and SSH of nodes, registry, metadata."""
    own = [node for node in cluster.nodes if node.name == replica.node]
    here = {node.address for node in own}
    servers = [node for node in cluster.nodes if node.role == "control_plane"]
    # the Service leads to any control plane
    out = [Place("the API server's Service", own=bool(servers) and servers == own)]
    api = urlsplit(cluster.api)
    if api.hostname:
        out.append(Place(f"the API server at {api.netloc}", api.hostname, api.port or 443))
    others = [node for node in cluster.nodes if node.name != replica.node]
    for node in [*own, *others[:1]]:
        out.append(Place(f"SSH of {node.name}", node.address, 22))
        out.append(Place(f"the kubelet of {node.name}", node.address, 10250))
    if cluster.registry is not None:
        host, _, port = cluster.registry.address.rpartition(":")
        out.append(
            Place("the registry", host, int(port))
            if host
            else Place("the registry", cluster.registry.address, 443)
        )
    out.append(Place("the metadata address", _METADATA, 80))
    return [replace(place, own=place.own or place.host in here) for place in out]


def chosen(replicas: Sequence[Replica], count: int) -> tuple[Replica, ...]:
    """At most `count` of the replicas, from as many nodes as can be; the same ones each time."""
    by_node: dict[str, list[Replica]] = {}
    for replica in sorted(replicas, key=lambda one: one.pod):
        by_node.setdefault(replica.node, []).append(replica)
    rounds = itertools.zip_longest(*(by_node[node] for node in sorted(by_node)))
    in_turn = [replica for turn in rounds for replica in turn if replica is not None]
    if count >= len(by_node):
        return tuple(in_turn[:count])
    return tuple(in_turn[number * len(by_node) // count] for number in range(count))


def look(
    kubectl: Kubectl, cluster: Cluster, endpoints: Endpoints, *, at_most: int | None = None
) -> tuple[Seen, ...]:
    """Try it from every replica, several at once. What keeps one from being asked is told, not raised.

    at_most: from how many, where there are many; each then tries as many others.
    """
    replicas = endpoints.replicas if at_most is None else chosen(endpoints.replicas, at_most)

    def one(replica: Replica) -> Seen:
        others = [
            Place(f"replica {other.pod}", other.address, other.grpc_port)
            for other in replicas
            if other != replica
        ]
        try:
            return _look_from(kubectl, endpoints, replica, forbidden(cluster, replica), others)
        except SlipwayError as error:
            return Seen(replica, error=error.in_one_line())

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return tuple(pool.map(one, replicas))


def _look_from(
    kubectl: Kubectl,
    endpoints: Endpoints,
    replica: Replica,
    closed: Sequence[Place],
    others: Sequence[Place],
) -> Seen:
    name = f"{endpoints.service}.{endpoints.namespace}.svc"
    asked = {
        "seconds": _ANSWER_SECONDS,
        "places": [(place.name, place.host, place.port) for place in [*closed, *others]],
        "names": [name],
    }
    said = _answer(
        kubectl.run(
            [
                *("exec", replica.pod, "-n", endpoints.namespace, "--"),
                *("python", "-I", "-S", "-c", _PROGRAM, json.dumps(asked)),
            ]
        ).stdout
    )
    late = "no answer"
    missed = [
        f"{place.name} ({said.get(place.name, late)})" for place in others if said.get(place.name, late)
    ]
    if said.get(name, late):
        missed.append(f"the cluster's DNS ({said.get(name, late)})")
    reached = [place for place in closed if said.get(place.name, late) == ""]
    return Seen(
        replica,
        reached=tuple(place.name for place in reached if not place.own),
        reached_own=tuple(place.name for place in reached if place.own),
        proof=not closed[0].own,
        missed=tuple(missed),
    )


def _answer(text: str) -> Mapping[str, str]:
    """What became of each place: "" where it answered, else why not. Raises SlipwayError."""
    try:
        said = json.loads(text.strip().splitlines()[-1])["said"]
        return {str(place): str(reason) for place, reason in said.items()}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SlipwayError(
            f"the program in the replica printed no answer: {text.strip()[-200:] or 'nothing at all'}"
        ) from error


def required(settings: Settings) -> bool:
    """Whether a proof fails where policies are not enforced: in slipway's own clusters, or when asked for."""
    if settings.smoke.require_network_policy is not None:
        return settings.smoke.require_network_policy
    return settings.cluster.kubeconfig is None and settings.cluster.network_policy is not False


def gate(seen: Sequence[Seen], *, required: bool, of: int | None = None) -> Gate:
    """How many things went otherwise than the policy says; not `required`, that is told and fails nothing.

    of: how many replicas there are, where it was not tried from each.
    """
    reached = [_line(one, f"reached {', '.join(one.reached)}") for one in seen if one.reached]
    own = [
        _line(one, f"reached its own node: {', '.join(one.reached_own)}") for one in seen if one.reached_own
    ]
    missed = [_line(one, f"did not reach {', '.join(one.missed)}") for one in seen if one.missed]
    unasked = [_line(one, f"could not be asked: {one.error}") for one in seen if one.error]
    wrong = sum(len(one.reached) + len(one.missed) + bool(one.error) for one in seen)
    if not seen:
        wrong, unasked = 1, ["there was no replica to try it from"]
    elif own and not any(one.proof for one in seen):
        wrong += len(own)  # all there is to try is on the replicas' own nodes, and it answers
    word = "" if not wrong else NOT_ENFORCED if reached else NOT_PROVEN
    some = [f"tried from {len(seen)} of {of} replicas"] if of is not None and of > len(seen) else []
    note = "; ".join([*some, *reached, *missed, *unasked, *own])
    return Gate(NAME, 0, wrong, not wrong or not required, note, verdict=word)


def _line(one: Seen, what: str) -> str:
    return f"pod {one.replica.pod} on node {one.replica.node} {what}"
