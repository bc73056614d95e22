"""Stack configuration: what is taken, and every mistake told at once."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml
from slipway_stacks import outputs
from slipway_stacks.inputs import Inputs, read
from slipway_stacks.kinds import InputsError

IMAGE = "registry.lab:5000/slipway/mnist@sha256:" + "a" * 64
ROOT = Path(__file__).parents[2]


def test_only_the_image_is_needed() -> None:
    inputs = read({"image": IMAGE})
    assert (inputs.image, inputs.namespace, inputs.replicas, inputs.service_type) == (
        IMAGE,
        "serving",
        3,
        "ClusterIP",
    )
    assert inputs.pull_secrets == []
    assert inputs.max_replicas is None


GOOD = [
    ("replicas", "1", 1),
    ("replicas", "10000", 10000),
    ("namespace", "a", "a"),
    ("namespace", "n" * 63, "n" * 63),
    ("serviceType", "NodePort", "NodePort"),
    ("createNamespace", "false", False),
    ("await", "false", False),
    ("cpuRequest", "0.25", "0.25"),
    ("memoryLimit", "2Gi", "2Gi"),
    ("spread", "preferred", "preferred"),
    ("server", "tensorflow", "tensorflow"),
    ("modelName", "Half_Plus.2-x", "Half_Plus.2-x"),
    ("pullSecrets", '["a", "b"]', ["a", "b"]),
    ("env", '{"A_B": "1"}', {"A_B": "1"}),
    ("nodeSelector", '{"kubernetes.io/arch": "arm64"}', {"kubernetes.io/arch": "arm64"}),
    ("affinity", '{"podAffinity": {}}', {"podAffinity": {}}),
    ("devices", '{"nvidia.com/gpu": "2"}', {"nvidia.com/gpu": "2"}),
    ("drainSeconds", "10", 10),
    ("tlsSecret", "mnist.example.com-tls", "mnist.example.com-tls"),
    ("tokenSecret", "tokens", "tokens"),
]


@pytest.mark.parametrize(("key", "text", "value"), GOOD)
def test_good_values_arrive_typed(key: str, text: str, value: object) -> None:
    inputs = read({"image": IMAGE, key: text})
    field = next(item for item in fields(Inputs) if item.metadata["key"] == key)
    assert getattr(inputs, field.name) == value


BAD = [
    ("server", "triton", "one of portable, tensorflow"),
    ("image", "mnist:latest", "by digest"),
    ("image", "r/mnist@sha256:abc", "by digest"),
    ("image", "", "by digest"),
    ("replicas", "0", "from 1 to 10000"),
    ("replicas", "3.0", "from 1 to 10000"),
    ("replicas", "three", "from 1 to 10000"),
    ("replicas", "9" * 30, "from 1 to 10000"),
    ("namespace", "Serving", "lower-case"),
    ("namespace", "n" * 64, "at most 63"),
    ("namespace", "serving\n", "lower-case"),
    ("serviceType", "clusterip", "ClusterIP, NodePort, LoadBalancer"),
    ("createNamespace", "yes", "true or false"),
    ("cpuRequest", "-1", "processors"),
    ("memoryRequest", "1 GB", "bytes"),
    ("grpcNodePort", "8500", "from 30000 to 32767"),
    ("spread", "even", "required, preferred"),
    ("drainSeconds", "1", "from 10 to 600"),
    ("gateway", "Outside", "lower-case"),
    ("restHostname", "https://mnist.example.com", "a host name"),
    ("grpcHostname", "mnist.*.com", "a host name"),
    ("modelName", "a/b", "letters"),
    ("modelName", "...", "letters"),
    ("pullSecrets", "registry-login", "a list of names"),
    ("pullSecrets", '["Login"]', "a list of names"),
    ("env", "A=1", "variables, a text each"),
    ("env", '{"1A": "x"}', "variables, a text each"),
    ("env", '{"A": 1}', "variables, a text each"),
    ("labels", '{"team": "has blanks"}', "labels, a text each"),
    ("tolerations", '["x"]', "a list of tolerations"),
    ("affinity", "[]", "an affinity"),
    ("volumes", '[{"emptyDir": {}}]', "each with a name"),
    ("volumeMounts", '[{"name": "x"}]', "name and mountPath"),
    ("devices", '{"nvidia.com/gpu": "one"}', "amounts by name"),
    ("tlsSecret", "My_TLS", "the name of a Secret"),
    ("tokenSecret", "../token", "the name of a Secret"),
    ("tlsClients", "yes", "true or false"),
]


@pytest.mark.parametrize(("key", "text", "expected"), BAD)
def test_bad_values_are_refused_with_what_was_expected(key: str, text: str, expected: str) -> None:
    with pytest.raises(InputsError) as caught:
        read({"image": IMAGE, key: text})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{key}: ")
    assert expected in caught.value.problems[0]
    assert repr(text) in caught.value.problems[0]


CONTRADICTIONS = [
    ({"server": "tensorflow", "tlsSecret": "a"}, "tlsSecret: only with server portable"),
    ({"server": "tensorflow", "tokenSecret": "a"}, "tokenSecret: only with server portable"),
    ({"tlsClients": "true"}, "tlsClients: only with tlsSecret"),
    (
        {"tlsSecret": "a", "gateway": "g", "restHostname": "a.example", "grpcHostname": "b.example"},
        "tlsSecret: not with gateway, which speaks to pods without TLS",
    ),
    ({"maxReplicas": "3"}, "maxReplicas: 3 is not more than replicas, 3"),
    ({"grpcNodePort": "30000"}, "grpcNodePort: only with"),
    (
        {"serviceType": "NodePort", "grpcNodePort": "30000", "restNodePort": "30000"},
        "restNodePort: 30000 is grpcNodePort already",
    ),
    ({"awaitLoadBalancer": "true"}, "awaitLoadBalancer: only with"),
    ({"memoryRequest": "2Gi"}, "memoryRequest: 2Gi is more than memoryLimit, 1Gi"),
    ({"memoryRequest": "1073741825"}, "memoryRequest: 1073741825 is more than memoryLimit, 1Gi"),
    ({"labels": '{"app": "x"}'}, "labels: app is the component's own"),
    ({"restHostname": "mnist.example.com"}, "restHostname: only with gateway"),
    ({"gateway": "outside"}, "gateway: a listener takes REST or gRPC for one host"),
    ({"gateway": "outside", "restHostname": "a.example.com"}, "gateway: a listener takes REST or gRPC"),
    (
        {"gateway": "outside", "restHostname": "*.example.com", "grpcHostname": "a.example.com"},
        "gateway: a listener takes REST or gRPC",
    ),
    (
        {"gateway": "outside", "restListener": "https", "grpcListener": "https"},
        "gateway: a listener takes REST or gRPC",
    ),
    ({"cpuRequest": "2", "cpuLimit": "1500m"}, "cpuRequest: 2 is more than cpuLimit, 1500m"),
]


@pytest.mark.parametrize(("values", "problem"), CONTRADICTIONS)
def test_combinations_that_cannot_work(values: dict[str, str], problem: str) -> None:
    with pytest.raises(InputsError) as caught:
        read({"image": IMAGE, **values})
    assert [text.startswith(problem) for text in caught.value.problems] == [True]


@pytest.mark.parametrize(
    "values",
    [
        {"restHostname": "mnist.example.com", "grpcHostname": "grpc.example.com"},
        {"restHostname": "example.com", "grpcHostname": "*.example.com"},
        {"restListener": "https", "grpcListener": "grpc"},
    ],
)
def test_routes_that_do_not_meet_are_taken(values: dict[str, str]) -> None:
    assert read({"image": IMAGE, "gateway": "outside", **values}).gateway == "outside"


def test_all_problems_at_once() -> None:
    with pytest.raises(InputsError) as caught:
        read({"replica": "3", "replicas": "0", "serviceType": "x", "memoryRequest": "2Gi"})
    keys = sorted(problem.split(":")[0] for problem in caught.value.problems)
    assert keys == ["image", "memoryRequest", "replica", "replicas", "serviceType"]
    assert "replica: unknown key; did you mean replicas?" in caught.value.problems


def test_a_refused_value_contradicts_nothing() -> None:
    """Or its default, which nobody asked for, would be told as the mistake."""
    with pytest.raises(InputsError) as caught:
        read(
            {
                "image": IMAGE,
                "replicas": "none",
                "maxReplicas": "2",
                "serviceType": "x",
                "restNodePort": "30000",
            }
        )
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["replicas", "serviceType"]


def test_the_project_file_declares_no_input() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    assert project["name"] == outputs.PROJECT
    # a declared key without a default is one the engine insists on, also where there are `models`; and a
    # default has its home in Inputs
    assert "config" not in project
    assert (ROOT / project["main"] / "__main__.py").is_file()
    assert (ROOT / project["stackConfigDir"]).is_dir()


def test_every_input_is_told() -> None:
    for item in fields(Inputs):
        assert item.metadata["meaning"], item.name
    keys = [item.metadata["key"] for item in fields(Inputs)]
    assert len(keys) == len(set(keys))


def test_the_manual_lists_every_input_with_its_default() -> None:
    """After a wanted change: put the table this test expects into docs/deploy.md."""

    def shown(value: object) -> str:
        return (
            ""
            if value in (None, "", MISSING)
            else f"`{str(value).lower() if isinstance(value, bool) else value}`"
        )

    rows = [
        f"| `{item.metadata['key']}` | {shown(item.default)} | {item.metadata['meaning']} |"
        for item in fields(Inputs)
    ]
    manual = (ROOT / "docs" / "deploy.md").read_text()
    assert "\n".join(rows) in manual
