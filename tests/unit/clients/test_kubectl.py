"""Which pods answer behind a Service, which do not belong, and what kubectl's failures mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.clients.kubectl import Kubectl, KubectlError, Stray, find_endpoints, match
from infra.core.errors import SlipwayError
from infra.core.types import Replica

DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "mnist-deployment", "namespace": "serving", "uid": "D"},
    "spec": {"replicas": 3},
}
SERVICE = {
    "kind": "Service",
    "metadata": {"name": "mnist-service", "namespace": "serving"},
    "spec": {
        "clusterIP": "10.96.0.9",
        "selector": {"app": "mnist-server"},
        "ports": [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}],
    },
}
SET = {
    "kind": "ReplicaSet",
    "metadata": {
        "name": "mnist-deployment-7f",
        "uid": "S",
        "ownerReferences": [{"kind": "Deployment", "uid": "D", "controller": True}],
    },
}


def pod(name: str, *, owner: str | None = "S", ready: bool = True, **more: Any) -> dict[str, Any]:
    number = name[-1]
    meta: dict[str, Any] = {
        "name": name,
        "generateName": "mnist-deployment-7f-",
        "labels": {"app": "mnist-server"} | more.pop("labels", {}),
    }
    if owner:
        meta["ownerReferences"] = [{"kind": "ReplicaSet", "uid": owner, "controller": True}]
    if more.pop("leaving", False):
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = {
        "phase": "Running",
        "podIP": f"10.244.0.{number}",
        "conditions": [
            {"type": "Ready", "status": "True" if ready else "False", "reason": "ContainersNotReady"}
        ],
    } | more.pop("status", {})
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": f"worker-{number}"} | more,
        "status": status,
    }


def slices(*pods: str, service: str = "mnist-service", **conditions: bool) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}],
        "endpoints": [
            {
                "addresses": [f"10.244.0.{name[-1]}"],
                "conditions": conditions or {"ready": True},
                "targetRef": {"kind": "Pod", "name": name},
            }
            for name in pods
        ],
    }


def replica(name: str) -> Replica:
    return Replica(name, f"worker-{name[-1]}", f"10.244.0.{name[-1]}", 8500, 8501)


def test_three_replicas_in_order() -> None:
    found = match(
        DEPLOYMENT, SERVICE, [SET, pod("p2"), pod("p1"), pod("p3"), slices("p3", "p1", "p2")], "render"
    )
    assert found.endpoints.replicas == (replica("p1"), replica("p2"), replica("p3"))
    assert found.strays == ()
    assert found.wanted == 3
    endpoints = found.endpoints
    assert (endpoints.service_address, endpoints.grpc_port, endpoints.rest_port) == ("10.96.0.9", 8500, 8501)


def test_slices_are_joined_and_other_services_ignored() -> None:
    items = [SET, pod("p1"), pod("p2"), slices("p1"), slices("p2"), slices("p1", service="mnist-replicas")]
    assert match(DEPLOYMENT, SERVICE, items, "render").endpoints.replicas == (replica("p1"), replica("p2"))


def test_unset_ready_counts_as_ready() -> None:
    items = [SET, pod("p1"), slices("p1", serving=True)]
    assert match(DEPLOYMENT, SERVICE, items, "render").endpoints.replicas == (replica("p1"),)


STRAYS: list[tuple[str, list[dict[str, Any]], Stray]] = [
    (
        "relabelled so far that the ReplicaSet let go",
        [pod("p9", owner=None, labels={"app": "other"})],
        Stray("p9", "worker-9", "the Deployment let go of it: its labels are now app=other"),
    ),
    (
        "a pod of somebody else behind our Service",
        [pod("p9", owner="else"), slices("p9")],
        Stray("p9", "worker-9", "answers behind mnist-service but is not a pod of the Deployment"),
    ),
    (
        "ready but not selected",
        [pod("p9", labels={"app": "x"})],
        Stray(
            "p9",
            "worker-9",
            "ready but not behind mnist-service: app is x, the Service selects mnist-server",
        ),
    ),
    (
        "ready but not listed",
        [pod("p9")],
        Stray("p9", "worker-9", "ready but not behind mnist-service: no EndpointSlice lists it as ready"),
    ),
    (
        "not ready",
        [pod("p9", ready=False), slices("p9", ready=False)],
        Stray("p9", "worker-9", "not ready: ContainersNotReady"),
    ),
    (
        "not ready, with the container's reason",
        [
            pod(
                "p9",
                ready=False,
                status={
                    "containerStatuses": [
                        {
                            "name": "c",
                            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                        }
                    ]
                },
            )
        ],
        Stray("p9", "worker-9", "not ready: container c: CrashLoopBackOff: back-off"),
    ),
    (
        "an address without a pod",
        [slices("p9")],
        Stray("p9", "", "an address behind mnist-service that belongs to no pod here"),
    ),
]


@pytest.mark.parametrize(("items", "stray"), [case[1:] for case in STRAYS], ids=[case[0] for case in STRAYS])
def test_strays_are_named(items: list[dict[str, Any]], stray: Stray) -> None:
    found = match(DEPLOYMENT, SERVICE, [SET, pod("p1"), slices("p1"), *items], "render")
    assert found.endpoints.replicas == (replica("p1"),)
    assert found.strays == (stray,)


@pytest.mark.parametrize(
    "items",
    [
        [pod("p9", leaving=True), slices("p9")],
        [pod("p9", leaving=True, owner=None, labels={"app": "other"})],
        [pod("p9", status={"phase": "Failed"}, ready=False)],
        [pod("p9", owner=None) | {"metadata": {"name": "p9", "labels": {"app": "x"}}}],
        [slices("p9", ready=False)],
    ],
    ids=["leaving", "leaving and let go", "evicted", "nothing of ours", "an address that is not ready"],
)
def test_what_is_no_stray(items: list[dict[str, Any]]) -> None:
    found = match(DEPLOYMENT, SERVICE, [SET, pod("p1"), slices("p1"), *items], "render")
    assert found.endpoints.replicas == (replica("p1"),)
    assert found.strays == ()


def test_a_load_balancers_address_is_the_services() -> None:
    service = {**SERVICE, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
    assert match(DEPLOYMENT, service, [SET], "engine").endpoints.service_address == "192.0.2.7"


# ---- the program itself, as a stand-in that records how it was called


@pytest.fixture
def stand_in(tmp_path: Path) -> Kubectl:
    """A kubectl that notes its arguments, environment and input, and answers what the test puts there."""
    program = tmp_path / "kubectl"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "piped = '' if 'port-forward' in sys.argv else sys.stdin.read()\n"
        "with (here / 'calls').open('a') as file:\n"
        "    file.write(json.dumps([sys.argv[1:], piped, dict(os.environ)]) + '\\n')\n"
        "if 'port-forward' in sys.argv:\n"
        "    (here / 'pid').write_text(str(os.getpid()))\n"
        "    print('Forwarding from 127.0.0.1:40123 -> 8500', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.stderr.write((here / 'err').read_text() if (here / 'err').exists() else '')\n"
        "sys.stdout.write((here / 'out').read_text() if (here / 'out').exists() else '')\n"
        "sys.exit(1 if (here / 'err').exists() else 0)\n"
    )
    program.chmod(0o755)
    return Kubectl(program, tmp_path / "kubeconfig", "there")


def calls(kubectl: Kubectl) -> list[tuple[list[str], str, dict[str, str]]]:
    return [tuple(json.loads(line)) for line in (kubectl.binary.parent / "calls").read_text().splitlines()]


def test_every_call_names_its_cluster_and_leaves_the_home_alone(stand_in: Kubectl) -> None:
    stand_in.run(["version"])
    ((argv, _, environ),) = calls(stand_in)
    assert argv == [f"--kubeconfig={stand_in.kubeconfig}", "--context=there", "version"]
    assert Path(environ["KUBECACHEDIR"]).name == "kubectl"
    assert environ["KUBECTL_KUBERC"] == "false"


def test_manifests_go_through_stdin(stand_in: Kubectl) -> None:
    stand_in.apply(
        [{"kind": "Secret", "data": {"x": "canary"}}], applyset="configmaps/s", namespace="n", force=True
    )
    ((argv, piped, environ),) = calls(stand_in)
    assert "canary" in piped
    assert "canary" not in " ".join(argv) + json.dumps(environ)
    assert argv[2:] == [
        *("apply", "--server-side", "--field-manager=slipway", "-f", "-", "--force-conflicts"),
        *("-n", "n", "--prune", "--applyset=configmaps/s"),
    ]
    assert environ["KUBECTL_APPLYSET"] == "true"


def test_a_conflict_is_not_forced_by_default(stand_in: Kubectl) -> None:
    stand_in.apply([])
    ((argv, _, _),) = calls(stand_in)
    assert "--force-conflicts" not in argv
    assert "--prune" not in argv


def test_find_gives_none_for_what_is_not_there(stand_in: Kubectl) -> None:
    assert stand_in.find("deployment", "x", namespace="n") is None
    (stand_in.binary.parent / "out").write_text('{"kind": "Deployment"}')
    assert stand_in.find("deployment", "x", namespace="n") == {"kind": "Deployment"}


def test_port_forward_lives_as_long_as_the_block(stand_in: Kubectl) -> None:
    with stand_in.port_forward("serving", "p1", 8500) as address:
        assert address == ("127.0.0.1", 40123)
        child = int((stand_in.binary.parent / "pid").read_text())
        assert Path(f"/proc/{child}").exists()
    assert not Path(f"/proc/{child}").exists()


REASONS = [
    ('Error from server (NotFound): deployments.apps "x" not found', "not_found"),
    (
        "The connection to the server 10.77.0.2:6443 was refused - did you specify the right host?",
        "unreachable",
    ),
    ("Unable to connect to the server: dial tcp: lookup cp: no such host", "unreachable"),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "unreachable"),
    ('error: Apply failed with 1 conflict: conflict with "helm": .spec.replicas', "conflict"),
    ('Error from server (Forbidden): pods is forbidden: User "x" cannot list', "denied"),
    ("error: You must be logged in to the server (Unauthorized)", "denied"),
    ('The Deployment "x" is invalid: spec.replicas: Invalid value: -1', "invalid"),
    ("error: current-context must exist in order to minify", "kubeconfig"),
    ("Error in configuration: context was not found for specified context: x", "kubeconfig"),
    ("error: cannot locate context x", "kubeconfig"),
    ("error: stat /none: no such file or directory", "kubeconfig"),
    ('error: error loading config file "c": yaml: did not find expected key', "kubeconfig"),
    (
        "The connection to the server localhost:8080 was refused - did you specify the right host?",
        "kubeconfig",
    ),
    ("something new", "other"),
]


@pytest.mark.parametrize(("text", "reason"), REASONS)
def test_failures_say_why(stand_in: Kubectl, text: str, reason: str) -> None:
    (stand_in.binary.parent / "err").write_text(text)
    with pytest.raises(KubectlError) as caught:
        stand_in.get("pods")
    assert caught.value.reason == reason
    assert caught.value.tail == text
    assert caught.value.action
    assert ("cluster.context" in caught.value.action) == (reason == "kubeconfig")


def test_no_deployment_is_said_in_a_sentence(stand_in: Kubectl) -> None:
    (stand_in.binary.parent / "out").write_text(json.dumps({"items": [SERVICE]}))
    with pytest.raises(SlipwayError, match="no Deployment mnist-deployment in namespace serving"):
        find_endpoints(stand_in, "serving", "mnist-deployment", "mnist-service", "render")


def test_everything_is_asked_at_once(stand_in: Kubectl) -> None:
    items = [DEPLOYMENT, SERVICE, SET, pod("p1"), slices("p1")]
    (stand_in.binary.parent / "out").write_text(json.dumps({"items": items}))
    found = find_endpoints(stand_in, "serving", "mnist-deployment", "mnist-service", "render")
    assert found == match(DEPLOYMENT, SERVICE, items, "render")
    assert len(calls(stand_in)) == 1
