from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from slipway.core.context import Context
from slipway.core.state import State
from slipway.core.types import (
    Cluster,
    Endpoints,
    ExportedModel,
    Gate,
    Host,
    HostPlay,
    Hosts,
    ImageRef,
    Node,
    Proof,
    Replica,
    ReplicaProof,
    Result,
    Run,
    Values,
)
from slipway.status.closing import closing_lines

HOSTS = Hosts("nspawn", (Host("cp", "10.0.0.2", "root", "k", ("control_plane",)),))
CLUSTER = Cluster(
    Path("k"),
    Path("b"),
    "https://10.0.0.2:6443",
    (Node("cp", "10.0.0.2", "control_plane", "v1.36.3"),),
    None,
    {"cp": HostPlay(3, 0, 0, 0)},
)
MODEL = ExportedModel(Path("m/1"), "mnist", 1, "00", Path("r"), 0.93, "5,000 images")
IMAGE = ImageRef("reg:5000/slipway/mnist", "sha256:ab", "t", "portable", "mnist", 1, "00")
ENDPOINTS = Endpoints(
    "serving",
    "mnist-deployment",
    "mnist-service",
    "10.1.1.1",
    8500,
    8501,
    (Replica("a", "w1", "10.2.0.1", 8500, 8501), Replica("b", "w2", "10.2.0.2", 8500, 8501)),
    "render",
)
PROOF = Proof(
    True,
    "s",
    "grpc",
    200,
    0,
    14,
    0,
    0.93,
    None,
    None,
    (ReplicaProof("e", "a", "w1", 100, 0, 7, 0, 1), ReplicaProof("e", "b", "w2", 100, 0, 7, 0, 1)),
    (),
)
VALUES = Values(HOSTS, CLUSTER, MODEL, IMAGE, ENDPOINTS, PROOF)
NAMES = ("hosts", "provision", "model", "image", "deploy", "smoke")
AFTER = ((), *((name,) for name in NAMES))  # one after the other
SAME = Run(
    True,
    tuple(
        Result(name, "unchanged", "", 1.5, started=1.5 * number, after=AFTER[number])
        for number, name in enumerate(NAMES)
    ),
    VALUES,
    {},
)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(State(tmp_path), tmp_path / "run", tmp_path)


def test_a_good_run_tells_what_where_how_well_how_long_and_what_next(ctx: Context) -> None:
    text = "\n".join(closing_lines(SAME, ctx))
    assert (
        "deployed: mnist-deployment in namespace serving, 2 replicas on w1, w2, behind mnist-service:8500"
        in text
    )
    assert "reg:5000/slipway/mnist@sha256:ab" in text
    assert "2 replicas, 200 requests, 0 errors, 0 differences, error rate 7.0 %" in text
    assert "accuracy 0.930 on 5,000 images" in text
    assert "smoke 1.5 s; 9.0 s in all" in text
    assert "slipway down" in text


def test_each_model_of_a_server_is_told(ctx: Context) -> None:
    bad = replace(PROOF, model="digits", ok=False, gates=(Gate("differences", 0, 2, False),))
    proof = replace(PROOF, model="mnist", ok=False, beside=(bad,))
    lines = closing_lines(replace(SAME, ok=False, values=VALUES.having(proof)), ctx)
    told = [line for line in lines if "proved" in line]
    assert [line.partition(" replicas")[0] for line in told] == [
        "proved:   model mnist: 2",
        "NOT proved: model digits: 2",
    ]


def several(*results: Result, **models: Values) -> Run:
    """SAME for several models."""
    own = {name: replace(one, hosts=None, cluster=None) for name, one in models.items()}
    each = tuple(replace(result, model=name) for name in models for result in SAME.results[2:])
    return Run(True, (*SAME.results[:2], *each, *results), Values(HOSTS, CLUSTER, models=own), {})


def test_each_of_several_models_is_told(ctx: Context) -> None:
    other = replace(ENDPOINTS, namespace="other", deployment="digits-deployment", service="digits-service")
    digits = VALUES.having(other).having(replace(PROOF, model="digits"))
    lines = closing_lines(several(mnist=VALUES, digits=digits), ctx)
    assert [line.partition(" in ")[0] for line in lines if line.startswith("deployed")] == [
        "deployed: mnist-deployment",
        "deployed: digits-deployment",
    ]
    assert [line.partition(" replicas")[0] for line in lines if "proved" in line] == [
        "proved:   model mnist: 2",
        "proved:   model digits: 2",
    ]
    assert sum(line.startswith("cluster:") for line in lines) == 1
    assert any("deploy mnist 1.5 s" in line and "smoke digits 1.5 s" in line for line in lines)
    assert any(line.startswith("nothing changed") for line in lines)
    assert [line for line in lines if "kubectl get pods" in line] == [
        f'next:     eval "$(slipway env)" && kubectl get pods -n {space} -o wide'
        for space in ("serving", "other")
    ]


def test_a_model_that_was_not_proved_is_named(ctx: Context) -> None:
    failed = several(mnist=VALUES, digits=replace(VALUES, proof=None))
    lines = closing_lines(replace(failed, ok=False), ctx)
    assert "NOT proved: model digits" in lines
    assert any(line.startswith("proved:   model mnist") for line in lines)
    gone = Result("deploy", "changed", "9 objects removed", 2.0, changed=9, model="old")
    assert not any(line.startswith("nothing changed") for line in closing_lines(several(gone, a=VALUES), ctx))


def test_a_second_run_says_that_nothing_changed(ctx: Context) -> None:
    assert "nothing changed: 0 changed tasks on 1 hosts, same image digest, same pods" in closing_lines(
        SAME, ctx
    )


@pytest.mark.parametrize("name", ["hosts", "provision", "model", "image", "deploy"])
def test_any_change_takes_that_line_away(ctx: Context, name: str) -> None:
    results = tuple(replace(r, status="changed", changed=1) if r.name == name else r for r in SAME.results)
    assert not any("nothing changed" in line for line in closing_lines(replace(SAME, results=results), ctx))


def test_smoke_alone_claims_nothing_about_the_rest(ctx: Context) -> None:
    results = tuple(r if r.name == "smoke" else replace(r, status="not_run") for r in SAME.results)
    assert not any("nothing changed" in line for line in closing_lines(replace(SAME, results=results), ctx))


def test_a_failed_run_says_where_to_go_on(ctx: Context) -> None:
    failed = (*SAME.results[:1], Result("provision", "failed", "no", 2.0), *SAME.results[2:])
    lines = closing_lines(Run(False, failed, Values(HOSTS), {}), ctx)
    assert any("slipway up   (after fixing the cause above" in line for line in lines)
    assert not any(line.startswith(("deployed", "proved")) for line in lines)


def test_collecting_evidence_is_in_the_times(ctx: Context) -> None:
    slow = replace(SAME.results[1], status="failed", seconds=2.0, evidence_seconds=28.04)
    lines = closing_lines(Run(False, (SAME.results[0], slow), Values(HOSTS), {}), ctx)
    assert "times:    hosts 1.5 s, provision 2.0 s, evidence 28.0 s; 31.5 s in all" in lines


def test_the_critical_path_is_told_where_something_ran_beside_it(ctx: Context) -> None:
    assert not any(line.startswith("path:") for line in closing_lines(SAME, ctx))
    hosts, provision, model, *_ = SAME.results
    beside = replace(model, started=0.0, after=())
    lines = closing_lines(replace(SAME, results=(hosts, provision, beside)), ctx)
    assert "times:    hosts 1.5 s, provision 1.5 s, model 1.5 s; 3.0 s in all" in lines
    assert "path:     hosts, provision: 3.0 s one after the other" in lines


def test_what_was_not_asked_for_and_not_found_is_told_beside_the_proof(ctx: Context) -> None:
    gate = Gate("network_policy", 0, 1, True, "pod a reached SSH of cp", verdict="not enforced")
    lines = closing_lines(replace(SAME, values=VALUES.having(replace(PROOF, gates=(gate,)))), ctx)
    proved = next(number for number, line in enumerate(lines) if line.startswith("proved:"))
    assert lines[proved + 1] == "but:      network_policy: not enforced: pod a reached SSH of cp"


def test_a_failed_proof_is_not_called_proved(ctx: Context) -> None:
    values = VALUES.having(replace(PROOF, ok=False, differences=3))
    failed = (*SAME.results[:-1], Result("smoke", "failed", "gate", 2.0))
    lines = closing_lines(Run(False, failed, values, {}), ctx)
    assert any(line.startswith("NOT proved: 2 replicas") and "3 differences" in line for line in lines)


def test_many_nodes_are_counted_and_not_named(ctx: Context) -> None:
    replicas = tuple(Replica(f"p{n}", f"w{n}", "10.2.0.1", 8500, 8501) for n in range(9))
    many = replace(SAME, values=replace(VALUES, endpoints=replace(ENDPOINTS, replicas=replicas)))
    assert "9 replicas on 9 nodes, behind" in "\n".join(closing_lines(many, ctx))
