"""What a replica may not reach, when not reaching it is asked for, and the words for what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.core.errors import SlipwayError
from slipway.core.schema import Settings
from slipway.core.types import Cluster, Node, Registry, Replica
from slipway.core.verdicts import verdict
from slipway.smoke import network_policy
from slipway.smoke.network_policy import Seen

REPLICA = Replica("pod-a", "worker-1", "10.244.1.2", 8500, 8501)
NODES = (
    Node("cp", "10.77.0.2", "control_plane", "v1"),
    Node("worker-1", "10.77.0.3", "worker", "v1"),
    Node("worker-2", "10.77.0.4", "worker", "v1"),
)


def cluster(registry: str | None = "10.77.0.2:5000") -> Cluster:
    found = Registry(registry) if registry else None
    return Cluster(Path("kubeconfig"), Path("kubectl"), "https://10.77.0.2:6443", NODES, found)


def test_a_replica_has_no_business_with_the_cluster_its_nodes_the_registry_and_the_cloud() -> None:
    places = {(one.host, one.port) for one in network_policy.forbidden(cluster(), REPLICA)}
    assert places == {
        ("", 0),
        ("10.77.0.2", 6443),
        ("10.77.0.3", 22),
        ("10.77.0.3", 10250),
        ("10.77.0.2", 22),
        ("10.77.0.2", 10250),
        ("10.77.0.2", 5000),
        ("169.254.169.254", 80),
    }


def test_its_own_node_is_told_apart_for_kubernetes_lets_enforcers_leave_it_open() -> None:
    own = {one.name for one in network_policy.forbidden(cluster(), REPLICA) if one.own}
    assert own == {"SSH of worker-1", "the kubelet of worker-1"}
    alone = replace(cluster(), nodes=NODES[:1])
    there = network_policy.forbidden(alone, replace(REPLICA, node="cp"))
    assert {one.name for one in there if not one.own} == {"the metadata address"}
    told = network_policy.gate((Seen(REPLICA, reached_own=("SSH of worker-1",)),), required=True)
    assert told.note == "pod pod-a on node worker-1 reached its own node: SSH of worker-1"


@pytest.mark.parametrize(
    ("address", "place"),
    [("registry.example", ("registry.example", 443)), ("r:5000", ("r", 5000)), (None, None)],
)
def test_the_registry_is_tried_at_its_port(address: str | None, place: tuple[str, int] | None) -> None:
    found = [
        (one.host, one.port)
        for one in network_policy.forbidden(cluster(address), REPLICA)
        if "regis" in one.name
    ]
    assert found == ([place] if place else [])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, True),
        ({"cluster": {"network_policy": True}}, True),
        ({"cluster": {"network_policy": False}}, False),
        ({"cluster": {"kubeconfig": __file__}}, False),
        ({"cluster": {"kubeconfig": __file__}, "smoke": {"require_network_policy": True}}, True),
        ({"smoke": {"require_network_policy": False}}, False),
    ],
)
def test_it_is_asked_for_in_clusters_slipway_sets_up(settings: dict[str, object], wanted: bool) -> None:
    assert network_policy.required(Settings.model_validate(settings)) is wanted


@pytest.mark.parametrize(
    ("seen", "value", "word"),
    [
        ((Seen(REPLICA),), 0, "held"),
        ((Seen(REPLICA, reached=("SSH of cp",)), Seen(REPLICA)), 1, "not enforced"),
        ((Seen(REPLICA, missed=("the cluster's DNS (timed out)",)),), 1, "not proven"),
        ((Seen(REPLICA, error="refused"),), 1, "not proven"),
        ((Seen(REPLICA, reached=("a", "b"), missed=("c",)),), 3, "not enforced"),
        ((), 1, "not proven"),
        ((Seen(REPLICA, reached_own=("SSH of worker-1",)),), 0, "held"),
        ((Seen(REPLICA, reached=("SSH of cp",), reached_own=("SSH of worker-1",)),), 1, "not enforced"),
        ((Seen(REPLICA, reached_own=("SSH of cp",), proof=False),), 1, "not proven"),
        ((Seen(REPLICA, proof=False),), 0, "held"),
        ((Seen(REPLICA, reached_own=("a",), proof=False), Seen(REPLICA)), 0, "held"),
    ],
)
def test_nothing_but_what_was_seen_counts_as_held(seen: tuple[Seen, ...], value: int, word: str) -> None:
    told = network_policy.gate(seen, required=False)
    assert (told.value, told.ok, verdict(told)) == (value, True, word)
    asked = network_policy.gate(seen, required=True)
    assert (asked.value, asked.ok, asked.note) == (value, value == 0, told.note)
    assert verdict(asked) == ("held" if value == 0 else f"failed, {word}")


@pytest.mark.parametrize("text", ["", "Segmentation fault\n", "[]\n", '{"said": []}\n', "7"])
def test_a_replica_that_prints_no_answer_is_not_taken_for_shut_off(text: str) -> None:
    with pytest.raises(SlipwayError, match="printed no answer"):
        network_policy._answer(text)


def test_the_last_line_is_the_answer() -> None:
    said = json.dumps({"said": {"the registry": "timed out", "dns": ""}})
    assert network_policy._answer(f"warning: python is old\n{said}\n") == {
        "the registry": "timed out",
        "dns": "",
    }


def test_of_many_replicas_some_are_chosen_from_as_many_nodes_as_can_be() -> None:
    replicas = [Replica(f"pod-{n}-{m}", f"node-{n}", "10.0.0.1", 8500, 8501) for n in range(9) for m in "ab"]
    some = network_policy.chosen(replicas, 3)
    assert [one.pod for one in some] == ["pod-0-a", "pod-3-a", "pod-6-a"]
    assert network_policy.chosen(list(reversed(replicas)), 3) == some
    assert len({one.pod for one in network_policy.chosen(replicas, 11)}) == 11
    assert len({one.node for one in network_policy.chosen(replicas, 11)}) == 9
    assert set(network_policy.chosen(replicas, 99)) == set(replicas)


def test_a_policy_that_was_tried_from_some_says_from_how_many() -> None:
    told = network_policy.gate((Seen(REPLICA),), required=True, of=3000)
    assert (told.ok, told.note) == (True, "tried from 1 of 3000 replicas")
    assert network_policy.gate((Seen(REPLICA),), required=True, of=1).note == ""
