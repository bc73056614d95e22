"""The program under Pulumi's mocks: which objects there are and what each of them must say."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from slipway.clients.kubectl import Manifest
from slipway.clients.pulumi_render import Rendered, run_program
from slipway_stacks import outputs, rules

pytestmark = pytest.mark.usefixtures("an_event_loop")
NAMES = outputs.Names("mnist")
IMAGE = "registry.lab:5000/slipway/mnist@sha256:" + "a" * 64


SNAPSHOTS = Path(__file__).parent / "snapshots"
VARIANTS: dict[str, dict[str, str]] = {
    "default": {},
    "lab": {"createNamespace": "false", "pullSecrets": '["registry-login"]', "modelName": "mnist"},
    "tensorflow": {"server": "tensorflow", "createNamespace": "false"},
    "everything": {
        "namespace": "models",
        "replicas": "2",
        "maxReplicas": "5",
        "targetCpu": "60",
        "scaleDownSeconds": "60",
        "serviceType": "LoadBalancer",
        "grpcNodePort": "30500",
        "restNodePort": "30501",
        "await": "false",
        "cpuRequest": "500m",
        "cpuLimit": "2",
        "memoryRequest": "256Mi",
        "memoryLimit": "512Mi",
        "spread": "preferred",
        "startupSeconds": "61",
        "drainSeconds": "20",
        "pullSecrets": '["login", "other"]',
        "awaitSeconds": "300",
        "devices": '{"nvidia.com/gpu": "1"}',
        "env": '{"TF_NUM_INTRAOP_THREADS": "2", "OMP_NUM_THREADS": "1"}',
        "extraArgs": '["--file_system_poll_wait_seconds=30"]',
        "labels": '{"team": "vision"}',
        "annotations": '{"example.com/owner": "Ann"}',
        "podMonitor": "true",
        "nodeSelector": '{"kubernetes.io/arch": "amd64"}',
        "tolerations": '[{"key": "dedicated", "operator": "Exists"}]',
        "affinity": '{"nodeAffinity": {}}',
        "priorityClass": "urgent",
        "volumes": '[{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}}]',
        "volumeMounts": '[{"name": "models", "mountPath": "/models", "readOnly": true}]',
        "modelName": "other",
    },
    "guarded": {
        "tlsSecret": "mnist-tls",
        "tlsClients": "true",
        "tokenSecret": "mnist.tokens",
        "podMonitor": "true",
        "extraArgs": '["--access_log"]',
    },
    "gateway": {
        "gateway": "outside",
        "gatewayNamespace": "gateways",
        "restHostname": "mnist.example.com",
        "grpcHostname": "grpc.mnist.example.com",
        "restListener": "https",
        "grpcListener": "grpc",
    },
}


def program(**values: str) -> Rendered:
    return run_program({f"slipway:{key}": value for key, value in {"image": IMAGE, **values}.items()})


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return program()


def one(rendered: Rendered, kind: str, name: str | None = None) -> Manifest:
    found = [
        item
        for item in rendered.manifests
        if item["kind"] == kind and (name is None or item["metadata"]["name"] == name)
    ]
    assert len(found) == 1, [item["metadata"]["name"] for item in found]
    return found[0]


@pytest.fixture(scope="module")
def pod(rendered: Rendered) -> dict[str, Any]:
    return dict(one(rendered, "Deployment")["spec"]["template"]["spec"])


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    assert len(pod["containers"]) == 1
    return dict(pod["containers"][0])


def test_the_objects_and_their_names(rendered: Rendered) -> None:
    assert [(item["kind"], item["metadata"]["name"]) for item in rendered.manifests] == [
        ("Namespace", "serving"),
        ("ServiceAccount", "mnist-server"),
        ("NetworkPolicy", "mnist-server"),
        ("Deployment", "mnist-deployment"),
        ("Service", "mnist-replicas"),
        ("Service", "mnist-service"),
        ("PodDisruptionBudget", "mnist-server"),
    ]
    assert not rendered.warnings


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_manifests_are_as_reviewed(variant: str) -> None:
    """After a wanted change: SNAPSHOT=1 pytest tests/stacks, then read the diff."""
    import os

    text = "---\n".join(
        yaml.safe_dump(item, sort_keys=False, width=100) for item in program(**VARIANTS[variant]).manifests
    )
    file = SNAPSHOTS / f"{variant}.yaml"
    if os.environ.get("SNAPSHOT"):
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_runs_give_the_same_and_whole_numbers(variant: str) -> None:
    first, second = program(**VARIANTS[variant]), program(**VARIANTS[variant])
    assert first == second

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [found for item in value.values() for found in numbers(item)]
        if isinstance(value, list):
            return [found for item in value for found in numbers(item)]
        return [value] if isinstance(value, float) else []

    assert not [found for item in first.manifests for found in numbers(item)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_rule_is_broken(variant: str) -> None:
    assert rules.violations(program(**VARIANTS[variant]).manifests) == []


def test_the_container(container: dict[str, Any]) -> None:
    assert container["name"] == "mnist-container"
    assert container["image"] == IMAGE
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "grpc": 8500,
        "rest": 8501,
    }
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "512Mi"},
        "limits": {"memory": "1Gi"},
    }


def test_security_of_the_container(container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_security_of_the_pod(rendered: Rendered, pod: dict[str, Any]) -> None:
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == one(rendered, "ServiceAccount")["metadata"]["name"]
    assert one(rendered, "ServiceAccount")["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert (
        one(rendered, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    )


def test_only_tmp_can_be_written(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_grpc_health(container: dict[str, Any], probe: str) -> None:
    assert container[probe]["grpc"]["port"] == 8500


def pod_of(**values: str) -> dict[str, Any]:
    return dict(one(program(**values), "Deployment")["spec"]["template"]["spec"])


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_tensorflows_own_server_is_asked_for_its_model_over_rest(probe: str) -> None:
    """Its gRPC health says nothing of models."""
    (container,) = pod_of(server="tensorflow", modelName="Half.2")["containers"]
    assert container[probe]["httpGet"] == {"path": "/v1/models/Half.2", "port": 8501}
    assert "grpc" not in container[probe]


def test_tensorflows_own_server_has_its_time_before_the_signal_that_it_does_not_see() -> None:
    pod = pod_of(server="tensorflow", drainSeconds="20")
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert (
        sleep == pod_of(drainSeconds="20")["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] + 20
    )
    # the API refuses a sleep that is not shorter; what is over is time in which nothing happens
    assert pod["terminationGracePeriodSeconds"] == sleep + 1


def test_tensorflows_own_image_is_told_its_model() -> None:
    """The official image serves /models/$MODEL_NAME, and `model` without it."""
    (container,) = pod_of(
        server="tensorflow", modelName="other", env='{"A": "1", "MODEL_NAME": "wrong"}', extraArgs='["--x=1"]'
    )["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "MODEL_NAME", "value": "other"}]
    assert container["args"] == ["--x=1"]  # after the entrypoint's own
    assert "command" not in container
    assert "env" not in pod_of()["containers"][0]  # the portable image knows its model


def test_startup_has_the_time_it_was_given() -> None:
    deployment = one(program(startupSeconds="61"), "Deployment")
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 61


def test_a_rolling_update_takes_no_replica_away(rendered: Rendered, container: dict[str, Any]) -> None:
    spec = one(rendered, "Deployment")["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep > 0
    # the server has drainSeconds of its own, after the sleep
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == sleep + 30
    assert one(rendered, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_replicas_are_spread_over_nodes_that_take_them(pod: dict[str, Any]) -> None:
    (constraint,) = pod["topologySpreadConstraints"]
    assert (constraint["maxSkew"], constraint["topologyKey"]) == (1, "kubernetes.io/hostname")
    assert constraint["whenUnsatisfiable"] == "DoNotSchedule"
    assert constraint["nodeTaintsPolicy"] == "Honor"
    assert constraint["matchLabelKeys"] == ["pod-template-hash"]


def test_services_lead_to_the_pods(rendered: Rendered) -> None:
    deployment = one(rendered, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels.items() >= {"app": "mnist-server", "run": "mnist-service"}.items()
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    for name in (NAMES.service, NAMES.replicas):
        service = one(rendered, "Service", name)["spec"]
        assert service["selector"].items() <= labels.items()
        assert [(port["name"], port["port"], port["targetPort"]) for port in service["ports"]] == [
            ("grpc", 8500, "grpc"),
            ("rest", 8501, "rest"),
        ]
    assert one(rendered, "Service", NAMES.replicas)["spec"]["clusterIP"] == "None"
    assert one(rendered, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert one(rendered, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_network_policy_opens_the_serving_ports_only(rendered: Rendered) -> None:
    spec = one(rendered, "NetworkPolicy")["spec"]
    assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == [8500, 8501]
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_names_are_asked_of_the_clusters_own_dns_and_of_no_other(rendered: Rendered) -> None:
    names, serving = one(rendered, "NetworkPolicy")["spec"]["egress"]
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert names["to"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ]
    assert serving["to"] == [{"podSelector": {"matchLabels": {"app": "mnist-server"}}}]


def test_pull_secret_is_named_never_held() -> None:
    found = program(pullSecrets='["registry-login"]')
    spec = one(found, "Deployment")["spec"]["template"]["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry-login"}]
    assert "Secret" not in {item["kind"] for item in found.manifests}


def test_autoscaler_owns_the_count() -> None:
    found = program(maxReplicas="6")
    # without a count the API would start at 1
    assert one(found, "Deployment")["spec"]["replicas"] == 3
    spec = one(found, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 6)
    assert spec["scaleTargetRef"]["name"] == NAMES.deployment


def test_load_balancer_without_anybody_handing_out_addresses_is_not_waited_for() -> None:
    found = program(serviceType="LoadBalancer")
    notes = one(found, "Service", NAMES.service)["metadata"]["annotations"]
    assert notes == {"pulumi.com/skipAwait": "true"}
    assert "annotations" not in one(found, "Deployment")["metadata"]
    assert [NAMES.service in warning for warning in found.warnings] == [True]
    waiting = program(serviceType="LoadBalancer", awaitLoadBalancer="true")
    assert "annotations" not in one(waiting, "Service", NAMES.service)["metadata"]
    assert not waiting.warnings


def test_wrong_inputs_end_the_program_in_one_message() -> None:
    with pytest.raises(pulumi.RunError, match=r"(?s)image: expected.*replicsa: unknown key"):
        run_program({"slipway:image": "x", "slipway:replicsa": "3"})


def test_other_projects_configuration_is_not_ours() -> None:
    assert run_program({"slipway:image": IMAGE, "kubernetes:context": "x"}) == program()


Path_ = tuple[str | int, ...]
BREAKS: list[tuple[Path_, Any, str]] = [
    (("securityContext", "privileged"), True, "privileged"),
    (("securityContext", "allowPrivilegeEscalation"), True, "allowPrivilegeEscalation"),
    (("securityContext", "readOnlyRootFilesystem"), False, "readOnlyRootFilesystem"),
    (("securityContext", "capabilities", "drop"), [], "capabilities"),
    (("securityContext", "capabilities", "add"), ["NET_ADMIN"], "capabilities"),
    (("securityContext", "runAsUser"), 0, "overrides"),
    (("image",), "mnist:latest", "digest"),
    (("resources", "limits"), {}, "no memory in limits"),
    (("resources", "requests"), {"memory": "1Gi"}, "no cpu in requests"),
    (("ports", 0, "hostPort"), 8500, "hostPort"),
    (("startupProbe",), None, "no startupProbe"),
]
POD_BREAKS: list[tuple[Path_, Any, str]] = [
    (("hostNetwork",), True, "hostNetwork"),
    (("securityContext", "runAsNonRoot"), False, "root"),
    (("securityContext", "runAsUser"), 0, "root"),
    (("securityContext", "seccompProfile", "type"), "Unconfined", "seccomp"),
    (("automountServiceAccountToken",), True, "token"),
    (("volumes",), [{"name": "x", "hostPath": {"path": "/"}}], "hostPath"),
    (("volumes",), [{"name": "x", "emptyDir": {}}], "sizeLimit"),
]


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [(("containers", 0, *path), value, word) for path, value, word in BREAKS] + POD_BREAKS,
)
def test_a_broken_rule_is_found(rendered: Rendered, path: Path_, value: Any, word: str) -> None:
    broken = copy.deepcopy(rendered.manifests)
    place = next(item for item in broken if item["kind"] == "Deployment")["spec"]["template"]["spec"]
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    found = rules.violations(broken)
    assert len(found) == 1, found
    assert word in found[0]
    assert found[0].startswith("Deployment mnist-deployment: ")


def test_rules_beside_the_pod(rendered: Rendered) -> None:
    broken = copy.deepcopy(list(rendered.manifests))
    next(item for item in broken if item["kind"] == "ServiceAccount")["automountServiceAccountToken"] = True
    rolling = next(item for item in broken if item["kind"] == "Deployment")["spec"]["strategy"][
        "rollingUpdate"
    ]
    rolling["maxUnavailable"] = 1
    broken.append({"kind": "Secret", "metadata": {"name": "s"}})
    assert len(rules.violations(broken)) == 3


def test_a_policy_that_lets_out_anywhere_is_found(rendered: Rendered) -> None:
    broken = copy.deepcopy(list(rendered.manifests))
    spec = next(item for item in broken if item["kind"] == "NetworkPolicy")["spec"]
    del spec["egress"][0]["to"]
    assert rules.violations(broken) == ["NetworkPolicy mnist-server: egress rule 1 leads to any place"]
    spec["egress"] = []
    spec["policyTypes"] = ["Ingress"]
    assert rules.violations(broken) == ["NetworkPolicy mnist-server: does not cover both directions"]
