"""The smoke stage against a stand-in cluster: every gate has a way to fail, and names pod and node."""

import contextlib
import json
from dataclasses import replace

import grpc
import pytest
from slipway.clients import ssh
from slipway.clients.kubectl import Kubectl
from slipway.clients.pods import GRACE
from slipway.core import retry
from slipway.core.context import Context
from slipway.core.errors import GateFailed, SlipwayError, UsageError
from slipway.core.events import Note
from slipway.core.schema import ClusterSettings, Settings, SmokeSettings
from slipway.core.state import State
from slipway.core.types import ExportedModel, Host, Hosts, Proof, load
from slipway.smoke import asking_pod
from slipway.smoke import stage as smoke_stage
from slipway.smoke.proof import prove_server, require
from slipway_client.errors import NotReachable, WrongModel
from slipway_client.requests import read, write
from slipway_stacks import inputs, pod

from tests.standins.authority import Authority
from tests.standins.clock import Clock, stopped
from tests.standins.cluster import IMAGE, StandInCluster, cluster, endpoints, exported
from tests.standins.load import one_round
from tests.standins.model_server import Behaviour, ServerTls, StandIn, fixed_requests, requests_file


@pytest.fixture
def ctx(tmp_path):
    (tmp_path / "run").mkdir()
    return Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache")


@pytest.fixture
def run(ctx, tmp_path, monkeypatch):
    """Run the stage against a stand-in cluster."""
    monkeypatch.setattr(
        "slipway_client.client.time", Clock()
    )  # a model that loads for ever is given up at once
    monkeypatch.setattr("slipway_client.check.load", one_round)

    def go(standin, *, file=None, hosts=None, network_policy=None, beside=(), **changes):
        own = tmp_path / "models" / "mnist" / "1" / "assets.extra"
        own.mkdir(parents=True, exist_ok=True)
        own_file = requests_file(own)
        standin.in_image, standin.folder = own_file, tmp_path
        monkeypatch.setattr(Kubectl, "of", lambda cluster: standin)
        limits = SmokeSettings(**{"num_tests": 12, "timeout": 60.0, **changes})
        return smoke_stage.Smoke().run(
            ctx,
            Settings(smoke=limits, cluster=ClusterSettings(network_policy=network_policy)),
            hosts=hosts,
            cluster=cluster(tmp_path),
            model=replace(exported(tmp_path, file or own_file), beside=beside),
            image=IMAGE,
            endpoints=endpoints(),
        )

    return go


def _failed(run, standin, **changes):
    with pytest.raises(GateFailed) as caught:
        run(standin, **changes)
    proof = caught.value.value
    assert isinstance(proof, Proof)
    return {gate.name for gate in proof.gates if not gate.ok}, "\n".join(caught.value.lines()), proof


def test_a_right_deployment_is_proven(run, ctx):
    with StandInCluster() as standin:
        outcome = run(standin)
    proof = outcome.value
    assert proof.ok
    assert outcome.changed == 0
    assert {gate.name for gate in proof.gates} == {
        "replicas_answered",
        "stray_pods",
        "errors",
        "differences",
        "accuracy",
        "other_versions",
        "other_images",
        "replicas_disagree",
        "predict_and_classify_disagree",
        "grpc_and_rest_disagree",
        "failures_from_a_pod",
        "network_policy",
    }
    assert [(one.pod, one.node, one.requests, one.model_version) for one in proof.replicas] == [
        ("pod-a", "worker-1", 15, 1),
        ("pod-b", "worker-2", 15, 1),
        ("pod-c", "worker-1", 15, 1),
    ]
    assert (proof.requests, proof.errors, proof.differences, proof.accuracy) == (45, 0, 0, 1.0)
    assert proof.latency_ms is not None
    assert proof.server == "mnist-service.serving:8500"
    assert load(Proof, (ctx.run / "smoke.json").read_bytes()) == proof
    kept = {path.name for path in (ctx.run / "evidence" / "smoke").iterdir()}
    assert kept == {"pod-a.json", "pod-b.json", "pod-c.json", "from-a-pod.json"}


def test_every_replica_got_every_request(run):
    with StandInCluster() as standin:
        run(standin)
        # 15 proving, 2 x 3 to agree by method, 13 sampled twice: gRPC and REST; the pod asks pod-a more
        assert [standin.servers[name].requests for name in ("pod-b", "pod-c")] == [47, 47]


def test_smoke_json_has_the_form_others_read(run, ctx):
    with StandInCluster() as standin:
        run(standin)
    data = json.loads((ctx.run / "smoke.json").read_text())
    assert set(data) == {
        *("ok", "server", "transport", "requests", "errors", "wrong", "differences", "accuracy"),
        *("latency_ms", "throughput_rps", "replicas", "gates", "model", "beside"),
    }
    assert set(data["latency_ms"]) == {"p50", "p90", "p99", "max"}
    assert {"endpoint", "pod", "node", "requests", "errors", "differences", "model_version"} <= set(
        data["replicas"][0]
    )
    assert {"name", "limit", "value", "ok"} <= set(data["gates"][0])


def test_a_wrong_model_in_one_pod(run, ctx):
    with StandInCluster([Behaviour(), Behaviour(off_by=0.01), Behaviour()]) as standin:
        gates, said, proof = _failed(run, standin)
    assert gates == {
        "differences",
        "predict_and_classify_disagree",
        "replicas_disagree",
        "grpc_and_rest_disagree",
    }
    assert "`kubectl logs -n serving POD`" in said
    assert "pod pod-b on node worker-2: 12 of 15 answers differ" in said
    assert "pod pod-a" not in said.replace("from pod pod-a", "")
    assert "pod pod-c" not in said
    assert json.loads((ctx.run / "smoke.json").read_text())["ok"] is False
    assert not proof.ok


def digits(folder, **changes):
    """A model in the same server, and the behaviours of three replicas that serve both."""
    own = folder / "digits" / "2" / "assets.extra"
    own.mkdir(parents=True)
    model = ExportedModel(own.parent, "digits", 2, "1" * 64, requests_file(own, count=5))
    second = Behaviour(model="digits", version=2)
    right, wrong = Behaviour(beside=second), Behaviour(beside=replace(second, **changes))
    return model, [right, wrong, right]


def test_each_model_of_a_server_is_proven_by_name_with_its_own_requests(run, ctx, tmp_path):
    model, behaviours = digits(tmp_path)
    with StandInCluster(behaviours) as standin:
        outcome = run(standin, beside=(model,))
    proof = outcome.value
    (other,) = proof.beside
    assert proof.ok and other.ok
    assert (proof.model, other.model) == ("mnist", "digits")
    assert (proof.requests, other.requests) == (45, 45)
    assert [(one.pod, one.model_version) for one in other.replicas] == [
        *(("pod-a", 2), ("pod-b", 2), ("pod-c", 2)),
    ]
    of_pods = {"stray_pods", "other_images", "network_policy"}  # and of no model: they are told once
    assert {gate.name for gate in proof.gates} - {gate.name for gate in other.gates} == of_pods
    assert standin.asked_for == "/models/digits/2/assets.extra/requests.jsonl"  # from the pod, in the image
    assert "model digits: 3 replicas answered 45 requests: 0 errors" in outcome.summary
    assert load(Proof, (ctx.run / "smoke.json").read_bytes()) == proof
    kept = {path.name for path in (ctx.run / "evidence" / "smoke" / "digits").iterdir()}
    assert kept == {"pod-a.json", "pod-b.json", "pod-c.json", "from-a-pod.json"}


def test_a_wrong_model_beside_a_right_one_is_told_by_name_and_the_right_one_keeps_its_proof(run, tmp_path):
    model, behaviours = digits(tmp_path, off_by=0.01)
    with StandInCluster(behaviours) as standin, pytest.raises(GateFailed) as caught:
        run(standin, beside=(model,))
    proof = caught.value.value
    assert isinstance(proof, Proof)
    assert not proof.ok
    assert all(gate.ok for gate in proof.gates)
    said = "\n".join(caught.value.lines())
    assert "not proven: model digits: differences" in said
    assert "model digits: pod pod-b on node worker-2: " in said
    assert "model mnist" not in said


def test_a_model_that_one_replica_does_not_have_is_told(run, tmp_path):
    model, behaviours = digits(tmp_path, model="letters")
    with StandInCluster(behaviours) as standin, pytest.raises(GateFailed) as caught:
        run(standin, beside=(model,))
    proof = caught.value.value
    assert isinstance(proof, Proof)
    (other,) = proof.beside
    gates = {gate.name: gate for gate in other.gates}
    assert not gates["replicas_answered"].ok
    assert gates["replicas_answered"].value == 2


def test_an_allowed_number_of_differences_is_allowed(run):
    with StandInCluster([Behaviour(), Behaviour(off_by=0.01), Behaviour()]) as standin:
        gates, _, _ = _failed(run, standin, max_differences=12)
    assert "differences" not in gates


def test_another_version_in_one_pod(run):
    with StandInCluster([Behaviour(), Behaviour(), Behaviour(version=2)]) as standin:
        gates, said, proof = _failed(run, standin)
    assert gates == {"other_versions"}
    assert "pod pod-c on node worker-1: it serves version 2, the export is version 1" in said
    assert proof.replicas[2].model_version == 2


def test_another_name_in_one_pod_and_the_others_are_still_asked(run):
    with StandInCluster([Behaviour(model="fashion"), Behaviour(), Behaviour()]) as standin:
        standin.service_server = standin.servers["pod-b"]
        gates, said, proof = _failed(run, standin)
    assert gates == {"replicas_answered"}
    assert "pod pod-a on node worker-1: the server has no model 'mnist'" in said
    assert [one.requests for one in proof.replicas] == [0, 15, 15]


def test_a_missing_signature_in_one_pod(run):
    behaviour = Behaviour()
    behaviour.signatures = {"serving_default": behaviour.signatures["serving_default"]}
    with StandInCluster([Behaviour(), behaviour, Behaviour()]) as standin:
        gates, said, _ = _failed(run, standin)
    assert gates == {"replicas_answered"}
    assert "pod pod-b on node worker-2: model mnist has no signature 'predict_images'" in said


def test_errors_of_one_pod(run):
    failing = Behaviour(fail_with=grpc.StatusCode.INTERNAL, fail_every=5)
    with StandInCluster([Behaviour(), Behaviour(), failing]) as standin:
        gates, said, _ = _failed(run, standin)
        assert gates == {"errors"}
        assert "pod pod-c on node worker-1: 3 of 15 requests failed; request" in said
        assert "told to fail" in said


def test_a_hanging_pod(run):
    with StandInCluster(
        [Behaviour(), Behaviour(fail_with=grpc.StatusCode.DEADLINE_EXCEEDED), Behaviour()]
    ) as standin:
        gates, said, proof = _failed(run, standin)
    assert gates == {"errors", "replicas_answered"}
    assert "pod pod-b on node worker-2: 15 of 15 requests failed" in said
    assert "no answer within 60 s" in said
    assert [one.errors for one in proof.replicas] == [0, 15, 0]


def test_a_model_that_is_not_available_in_one_pod(run):
    loading = Behaviour(state="LOADING")
    with StandInCluster([Behaviour(), loading, Behaviour()]) as standin:
        gates, said, _ = _failed(run, standin)
    assert gates == {"replicas_answered"}
    assert "pod pod-b on node worker-2: no version of model mnist is AVAILABLE (version 1: LOADING)" in said


def test_an_unreachable_pod_keeps_the_others_from_nothing(run):
    with StandInCluster() as standin:
        del standin.servers["pod-b"]
        gates, said, proof = _failed(run, standin)
    assert gates == {"replicas_answered"}
    assert "pod pod-b on node worker-2" in said
    assert "pod pod-b is gone" in said
    assert [one.requests for one in proof.replicas] == [15, 0, 15]


def test_fewer_replicas_than_wanted(run):
    with StandInCluster() as standin:
        standin.wanted = 4
        gates, said, _ = _failed(run, standin)
    assert gates == {"replicas_answered"}
    assert "gate replicas_answered: 3, the limit is 4" in said


def test_nodes_that_take_no_pods_are_told_with_what_ends_it(run):
    pressed = {
        "kind": "Node",
        "metadata": {"name": "worker-3"},
        "spec": {"taints": [{"key": "team", "value": "other", "effect": "NoExecute"}]},
        "status": {"conditions": [{"type": "DiskPressure", "status": "True"}]},
    }
    with StandInCluster() as standin:
        standin.wanted, standin.nodes = 4, [pressed]
        failed, said, _ = _failed(run, standin)
    assert failed == {"replicas_answered"}
    assert "node worker-3 has DiskPressure, taint team=other:NoExecute" in said
    assert "free disk on the machine behind the node" in said
    assert "`kubectl taint nodes worker-3 team-`" in said


def test_a_node_under_pressure_is_told_though_every_replica_answers(run, ctx, monkeypatch):
    said: list[object] = []
    monkeypatch.setitem(vars(ctx), "emit", said.append)
    with StandInCluster() as standin:
        standin.nodes = [
            {"kind": "Node", "metadata": {"name": "worker-3"}, "spec": {"unschedulable": True}},
            {
                "kind": "Node",
                "metadata": {"name": "worker-4"},
                "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            },
        ]
        run(standin)
    notes = [event.text for event in said if isinstance(event, Note)]
    assert notes[0] == "node worker-3 is cordoned"
    assert not any("worker-4" in note for note in notes)  # a taint may be there for good


def test_no_replica_at_all(run):
    with StandInCluster() as standin:
        standin.pods.clear()
        gates, _, proof = _failed(run, standin)
    assert {"replicas_answered"} <= gates
    assert proof.requests == 0


def test_a_pod_that_is_not_ready(run):
    with StandInCluster() as standin:
        status = standin.pods["pod-b"]["status"]
        status["conditions"] = [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]
        gates, said, _ = _failed(run, standin)
    assert gates == {"replicas_answered", "stray_pods"}
    assert "pod pod-b on node worker-2: not ready: ContainersNotReady" in said


def test_a_relabelled_pod(run):
    with StandInCluster() as standin:
        metadata = standin.pods["pod-c"]["metadata"]
        metadata["labels"] = {"app": "other"}
        metadata["ownerReferences"] = []
        gates, said, _ = _failed(run, standin)
    assert gates == {"replicas_answered", "stray_pods"}
    assert "pod pod-c on node worker-1: the Deployment let go of it: its labels are now app=other" in said


def test_a_foreign_pod_behind_the_service(run):
    with StandInCluster() as standin:
        standin.pods["pod-c"]["metadata"]["ownerReferences"] = []
        gates, said, _ = _failed(run, standin)
    assert "stray_pods" in gates
    assert (
        "pod pod-c on node worker-1: answers behind mnist-service but is not a pod of the Deployment" in said
    )


def test_another_image_in_one_pod(run):
    with StandInCluster() as standin:
        standin.pods["pod-b"]["spec"]["containers"][0]["image"] = "registry.lab:5000/slipway/mnist:latest"
        gates, said, _ = _failed(run, standin)
    assert gates == {"other_images"}
    assert "pod pod-b on node worker-2: it runs the image registry.lab:5000/slipway/mnist:latest" in said


def test_classify_says_something_else_than_predict(run):
    with StandInCluster([Behaviour(classify_off_by=0.01), Behaviour(), Behaviour()]) as standin:
        standin.service_server = standin.servers["pod-b"]
        gates, said, _ = _failed(run, standin, max_differences=3)
    assert "predict_and_classify_disagree" in gates
    assert "pod pod-a on node worker-1" in said
    assert "Predict and Classify disagree: row 0" in said


def test_rest_says_something_else_than_grpc(run):
    with StandInCluster([Behaviour(), Behaviour(rest_off_by=0.01), Behaviour()]) as standin:
        gates, said, _ = _failed(run, standin)
    assert gates == {"grpc_and_rest_disagree"}
    assert "pod pod-b on node worker-2: gRPC and REST disagree: over REST: request 1 (predict)" in said


def test_an_accuracy_below_the_limit(run, tmp_path):
    file = tmp_path / "own.jsonl"
    requests = fixed_requests()
    write(file, [type(one)(**{**vars(one), "labels": (2,)}) for one in requests])
    with StandInCluster() as standin:
        gates, said, proof = _failed(run, standin, file=file, min_accuracy=0.99)
    assert "accuracy" in gates
    assert proof.accuracy < 0.99
    assert f"gate accuracy: {proof.accuracy:g}, the limit is 0.99" in said


def test_without_recorded_answers_and_labels_nothing_is_claimed(run, tmp_path):
    file = tmp_path / "own.jsonl"
    write(file, fixed_requests(answers=False, labels=False))
    with StandInCluster() as standin:
        proof = run(standin, file=file).value
    gates = {gate.name: gate for gate in proof.gates}
    assert gates["differences"].note == "no recorded answers"
    assert proof.accuracy is None
    assert "accuracy" not in gates


def test_replicas_that_disagree_are_told_even_without_recorded_answers(run, tmp_path):
    file = tmp_path / "own.jsonl"
    write(file, fixed_requests(answers=False, labels=False))
    off = Behaviour(off_by=0.01, classify_off_by=0.01, rest_off_by=0.01)
    with StandInCluster([Behaviour(), off, Behaviour()]) as standin:
        gates, said, _ = _failed(run, standin, file=file)
    assert gates == {"replicas_disagree"}
    assert "pod pod-b on node worker-2: it answers unlike the other replicas" in said


# The one-off pod.


def test_the_pod_uses_the_image_by_digest_and_has_no_rights(run, monkeypatch):
    kept = []
    with StandInCluster() as standin:
        apply = standin.apply

        def keeping(manifests, **options):
            kept.extend(manifests)
            return apply(manifests, **options)

        monkeypatch.setattr(standin, "apply", keeping)
        run(standin)
        assert standin.made == {}
        assert standin.deleted == [kept[0]["metadata"]["name"]]
    (pod,) = kept
    container = pod["spec"]["containers"][0]
    assert container["image"] == IMAGE.reference
    assert container["command"] == ["python", "-m", "slipway_client"]
    assert "--requests=/models/mnist/1/assets.extra/requests.jsonl" in container["args"]
    assert container["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry-login"}]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "slipway/smoke" in pod["metadata"]["labels"]
    assert "app" not in pod["metadata"]["labels"]


def test_a_foreign_models_requests_travel_in_a_config_map(run, tmp_path):
    file = tmp_path / "own.jsonl"
    write(file, fixed_requests())
    with StandInCluster() as standin:
        assert run(standin, file=file).value.ok
        assert standin.asked_for == "/requests/requests.jsonl"
        assert standin.made == {}


def test_what_ended_runs_left_behind_is_removed_and_what_runs_is_not(run):
    def left(kind, name, phase=""):
        return {
            "kind": kind,
            "metadata": {"name": name, "labels": {asking_pod.LABEL: name}},
            "spec": {"containers": []},
            "status": {"phase": phase},
        }

    with StandInCluster() as standin:
        standin.made = {
            f"{kind} {name}": left(kind, name, phase)
            for kind, name, phase in (
                ("Pod", "slipway-smoke-ended", "Failed"),
                ("ConfigMap", "slipway-smoke-ended", ""),
                ("ConfigMap", "slipway-smoke-alone", ""),
                ("Pod", "slipway-smoke-other", "Running"),
                ("ConfigMap", "slipway-smoke-other", ""),
            )
        }
        assert run(standin).value.ok
        (sweep,) = [one for one in standin.commands if one[0] == "delete" and "/" in one[1]]
    assert [word for word in sweep if "/" in word] == [
        "pod/slipway-smoke-ended",
        "configmap/slipway-smoke-ended",
        "configmap/slipway-smoke-alone",
    ]


def test_wrong_answers_through_the_service_fail_although_the_replicas_are_right(run):
    with StandInCluster() as standin, StandIn(Behaviour(off_by=0.01)) as other:
        standin.service_server = other
        gates, said, _ = _failed(run, standin)
    assert gates == {"failures_from_a_pod"}
    assert "gate failures_from_a_pod: 12, the limit is 0 (request 1" in said


def test_a_service_that_leads_nowhere_fails(run):
    with StandInCluster() as standin, StandIn(Behaviour(model="other")) as other:
        standin.service_server = other
        gates, said, _ = _failed(run, standin)
    assert gates == {"failures_from_a_pod"}
    assert "'mnist'" in said


@pytest.mark.parametrize(
    ("fault", "words", "action"),
    [
        (
            {"waiting_reason": "ErrImagePull"},
            "does not start: container client: ErrImagePull: manifest unknown: no such image",
            "`slipway deploy` brings image and pull secret in order",
        ),
        ({"apply_error": "pods is forbidden: exceeded quota"}, "exceeded quota", ""),
    ],
)
def test_a_pod_that_cannot_ask_fails_the_gate_and_is_removed(run, fault, words, action):
    with StandInCluster() as standin:
        for name, value in fault.items():
            setattr(standin, name, value)
        gates, said, _ = _failed(run, standin)
        assert standin.made == {}
        assert any(one[0] == "delete" for one in standin.commands)
    assert gates == {"failures_from_a_pod"}
    assert words in said
    assert action in said


@pytest.mark.parametrize(("message", "least", "most"), [("manifest unknown", 0, 1), ("i/o timeout", 25, 26)])
def test_a_pull_that_may_succeed_yet_is_waited_for(run, monkeypatch, message, least, most):
    clock = stopped(monkeypatch, asking_pod, retry)
    with StandInCluster() as standin:
        standin.waiting_reason, standin.waiting_message = "ImagePullBackOff", message
        gates, said, _ = _failed(run, standin)
    assert gates == {"failures_from_a_pod"}
    assert f"ImagePullBackOff: {message}" in said
    assert least <= clock.now < most


def test_a_pod_that_no_node_takes_is_given_up_as_deploy_gives_up_a_replica(run, monkeypatch):
    clock = stopped(monkeypatch, asking_pod, retry)
    with StandInCluster() as standin:
        standin.unplaced = "0/3 nodes are available: 3 Insufficient cpu."
        gates, said, _ = _failed(run, standin)
        assert standin.made == {}
    assert gates == {"failures_from_a_pod"}
    assert "does not start: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu." in said
    assert "make room on a node" in said
    assert GRACE["place"] <= clock.now < GRACE["place"] + 1


def test_a_pod_that_prints_no_report_fails_the_gate(run, monkeypatch):
    with StandInCluster() as standin:
        original = standin.run

        def without_logs(args, **options):
            done = original(args, **options)
            return type(done)(done.argv, 0, "Segmentation fault\n", "") if args[0] == "logs" else done

        monkeypatch.setattr(standin, "run", without_logs)
        gates, said, _ = _failed(run, standin)
    assert gates == {"failures_from_a_pod"}
    assert "printed no report: Segmentation fault" in said


def test_the_pod_is_removed_after_ctrl_c(run, monkeypatch):
    with StandInCluster() as standin:
        original = standin.find

        def interrupted(kind, name, **options):
            if kind == "pod":
                raise KeyboardInterrupt
            return original(kind, name, **options)

        monkeypatch.setattr(standin, "find", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(standin)
        assert standin.made == {}


# What a replica reaches.


def test_a_replica_that_reaches_what_its_policy_forbids_fails_the_proof(run):
    with StandInCluster() as standin:
        standin.reached["pod-b"] = ("the API server's Service", "SSH of worker-1")
        gates, said, _ = _failed(run, standin)
    assert gates == {"network_policy"}
    assert (
        "not enforced: pod pod-b on node worker-2 reached the API server's Service, SSH of worker-1" in said
    )
    assert "`kubectl get networkpolicy -n serving`" in said
    assert "kubectl logs" not in said


def test_a_replica_cut_off_from_dns_or_the_others_fails_the_proof(run):
    with StandInCluster() as standin:
        standin.missed["pod-a"] = ("replica pod-b", "mnist-service.serving.svc")
        gates, said, _ = _failed(run, standin)
    assert gates == {"network_policy"}
    assert "not proven: pod pod-a on node worker-1 did not reach replica pod-b (timed out)" in said
    assert "the cluster's DNS (timed out)" in said


def test_a_replica_that_cannot_be_asked_fails_the_proof(run):
    with StandInCluster() as standin:
        standin.exec_error = "Error from server (Forbidden): pods is forbidden: cannot create pods/exec"
        gates, said, _ = _failed(run, standin)
    assert gates == {"network_policy"}
    assert "not proven: pod pod-a on node worker-1 could not be asked" in said


def test_where_nobody_asked_for_it_not_enforced_is_told_and_fails_nothing(run, ctx):
    with StandInCluster() as standin:
        standin.reached["pod-b"] = ("the API server's Service",)
        proof = run(standin, network_policy=False).value
    assert proof.ok
    (gate,) = [one for one in json.loads((ctx.run / "smoke.json").read_text())["gates"] if one["verdict"]]
    assert (gate["name"], gate["ok"], gate["verdict"], gate["value"]) == (
        "network_policy",
        True,
        "not enforced",
        1,
    )
    with StandInCluster() as standin:
        standin.reached["pod-b"] = ("the API server's Service",)
        gates, _, _ = _failed(run, standin, network_policy=False, require_network_policy=True)
    assert gates == {"network_policy"}


# The way in.


def test_replicas_are_reached_over_the_control_plane_when_there_are_hosts(run, monkeypatch):
    opened = []
    control = Host("cp", "10.0.0.1", "root", "ssh-ed25519 AAAA", ("control_plane",))
    with StandInCluster() as standin:
        ports = {8500: "port", 8501: "rest_port"}

        class Connection:
            @contextlib.contextmanager
            def tunnel(self, address, port):
                opened.append((address, port))
                name = list(standin.pods)[int(address.rpartition(".")[2]) - 1]
                yield "127.0.0.1", getattr(standin.servers[name], ports[port])

        @contextlib.contextmanager
        def connect(host):
            assert host is control
            yield Connection()

        monkeypatch.setattr(ssh, "connect", connect)
        monkeypatch.setattr(standin, "port_forward", None)
        assert run(standin, hosts=Hosts("nspawn", (control,))).value.ok
    assert sorted(opened) == [(f"10.244.0.{number}", port) for number in (1, 2, 3) for port in (8500, 8501)]


@pytest.mark.parametrize("clients", [False, True])
def test_a_deployment_with_tls_and_a_token_is_proven_through_both(run, tmp_path, clients):
    authority = Authority("a CA of tests")
    key, certificate = authority.sign("mnist")
    for name, pem in (("tls.key", key), ("tls.crt", certificate), ("ca.crt", authority.certificate)):
        (tmp_path / name).write_bytes(pem)
    tls = ServerTls(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt" if clients else None)
    token = "canary-0123456789abcdef"
    secrets = {
        "mnist-tls": {"tls.key": key, "tls.crt": certificate, "ca.crt": authority.certificate},
        "mnist-token": {"token": f"{token}\n".encode()},
    }
    declared = {"tlsSecret": "mnist-tls", "tokenSecret": "mnist-token", "tlsClients": str(clients).lower()}
    template = pod.template(inputs.read({"image": IMAGE.reference, **declared}))["spec"]
    with StandInCluster([Behaviour(token=token) for _ in "abc"], tls=tls) as standin:
        standin.pod_template, standin.secrets = template, secrets
        outcome = run(standin)
        assert outcome.value.errors == 0
        assert len(outcome.value.replicas) == 3
        assert token not in "\n".join(standin.logs.values())
        # each half is needed
        standin.pod_template = {"volumes": [item for item in template["volumes"] if item["name"] != "token"]}
        assert "replicas_answered" in _failed(run, standin)[0]
        standin.pod_template, standin.secrets = template, {"mnist-tls": secrets["mnist-tls"]}
        with pytest.raises(SlipwayError, match="no Secret mnist-token in namespace serving"):
            run(standin)


def test_bad_requests_are_refused_before_anything_is_asked(run, tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text("{}\n")
    with StandInCluster() as standin:
        with pytest.raises(UsageError, match="bad request"):
            run(standin, file=file)
        assert all(server.requests == 0 for server in standin.servers.values())


# One server, whoever runs it.


def prove(address, file, **options):
    return prove_server(address, Settings(), lambda client: read(file), **options)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_any_server_can_be_proved(tmp_path, transport, monkeypatch):
    monkeypatch.setattr("slipway_client.check.load", one_round)
    with StandIn() as server:
        address = server.address if transport == "grpc" else server.rest
        proof = prove(address, requests_file(tmp_path), transport=transport)
    assert proof.ok
    assert require(proof) is proof
    assert proof.server == address
    assert proof.replicas[0].endpoint == address
    assert proof.replicas[0].requests == 103
    assert proof.throughput_rps is not None


@pytest.mark.parametrize(
    ("behaviour", "gate"),
    [
        (Behaviour(off_by=0.01), "differences"),
        (Behaviour(fail_with=grpc.StatusCode.INTERNAL, fail_every=3), "errors"),
        (Behaviour(classify_off_by=0.01), "predict_and_classify_disagree"),
    ],
)
def test_a_server_that_is_not_right_is_not_proven(tmp_path, monkeypatch, behaviour, gate):
    monkeypatch.setattr("slipway_client.check.load", one_round)
    with StandIn(behaviour) as server:
        proof = prove(server.address, requests_file(tmp_path))
    assert gate in {one.name for one in proof.gates if not one.ok}
    with pytest.raises(GateFailed, match=gate) as caught:
        require(proof)
    assert caught.value.exit_code == 1
    assert server.address in "\n".join(caught.value.lines())


def test_a_server_that_cannot_be_asked_is_an_error_of_its_own(tmp_path, monkeypatch):
    file = requests_file(tmp_path)
    with StandIn(Behaviour(model="other")) as server, pytest.raises(WrongModel):
        prove(server.address, file)
    monkeypatch.setattr("slipway_client.client.time", Clock())
    with pytest.raises(NotReachable):
        prove("127.0.0.1:1", file)


def test_a_plan_changes_nothing(ctx):
    assert smoke_stage.Smoke().plan(ctx, Settings()) == []


MANY = {"many_replicas": 3, "sample": 2}


def test_of_many_replicas_each_is_asked_for_a_sample_and_the_output_says_so(run, ctx, monkeypatch):
    monkeypatch.setattr("slipway.smoke.network_policy.FROM_OF_MANY", 2)
    with StandInCluster() as standin:
        proof = run(standin, **MANY).value
        assert [standin.servers[name].requests for name in ("pod-b", "pod-c")] == [4, 4]
        assert sum(command[0] == "exec" for command in standin.commands) == 2
    assert proof.ok
    assert [(one.pod, one.requests, one.model_version) for one in proof.replicas] == [
        ("pod-a", 4, 1),
        ("pod-b", 4, 1),
        ("pod-c", 4, 1),
    ]
    policy = next(gate for gate in proof.gates if gate.name == "network_policy")
    assert policy.note == "tried from 2 of 3 replicas"
    kept = sorted(path.name for path in (ctx.run / "evidence" / "smoke").iterdir())
    assert kept == ["from-a-pod.json", "replicas.jsonl"]
    lines = (ctx.run / "evidence" / "smoke" / "replicas.jsonl").read_text().splitlines()
    assert [json.loads(line)["pod"] for line in lines] == ["pod-a", "pod-b", "pod-c"]


@pytest.mark.parametrize(
    ("behaviour", "gates"),
    [
        (Behaviour(off_by=0.01), {"differences"}),
        (Behaviour(version=7), {"other_versions"}),
        (Behaviour(state="LOADING"), {"replicas_answered"}),
    ],
)
def test_of_many_replicas_the_one_that_is_wrong_is_found(run, behaviour, gates):
    with StandInCluster([Behaviour(), behaviour, Behaviour()]) as standin:
        failed, said, _ = _failed(run, standin, **MANY)
    assert failed == gates
    assert "pod pod-b on node worker-2" in said


def test_of_many_replicas_without_recorded_answers_each_must_answer_as_the_first(run, tmp_path):
    with StandInCluster([Behaviour(), Behaviour(off_by=0.01), Behaviour()]) as standin:
        file = requests_file(tmp_path, answers=False)
        failed, said, _ = _failed(run, standin, file=file, requests=file, **MANY)
    assert "replicas_disagree" in failed
    assert "pod pod-b on node worker-2: it answers unlike" in said


def test_enough_failed_replicas_end_the_asking(run, monkeypatch):
    monkeypatch.setattr("slipway.smoke.replicas.ENOUGH_FAILED", 1)
    monkeypatch.setattr("slipway.smoke.replicas.AT_ONCE", 1)
    with StandInCluster([Behaviour(), Behaviour(version=7, state="LOADING"), Behaviour()]) as standin:
        failed, said, _ = _failed(run, standin, **MANY)
    assert "replicas_answered" in failed
    assert "pod pod-c on node worker-1: not asked: 1 replica had failed before" in said


def test_how_few_are_asked_little_is_told_with_the_setting_that_decides(run, ctx, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(
        type(ctx),
        "emit",
        property(lambda _: lambda event: told.append(getattr(event, "text", ""))),
        raising=False,
    )
    with StandInCluster() as standin:
        run(standin, **MANY)
    assert any("for its version and 2 answers" in line and "smoke.many_replicas" in line for line in told)
