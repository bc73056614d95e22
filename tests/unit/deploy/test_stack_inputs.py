"""What the stack is given: only what somebody set, under the stack's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.core.schema import DeploySettings, Settings
from slipway.core.types import ImageRef, Registry
from slipway.deploy import stack_inputs
from slipway_stacks import inputs

IMAGE = ImageRef("r.lab:5000/mnist", "sha256:" + "a" * 64, "1", "portable", "half_plus_two", 7, "0")


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def test_only_what_somebody_set_is_passed_on() -> None:
    assert stack_inputs.config(settings(), IMAGE, None) == {
        "image": IMAGE.reference,
        "modelName": "half_plus_two",
        "server": "portable",
        "createNamespace": "false",
    }
    asked = settings(deploy={"namespace": "models", "replicas": 5, "service_type": "NodePort"})
    assert stack_inputs.config(asked, IMAGE, Registry("r.lab:5000", "me", Path("p"))) == {
        "image": IMAGE.reference,
        "modelName": "half_plus_two",
        "server": "portable",
        "createNamespace": "false",
        "namespace": "models",
        "replicas": "5",
        "serviceType": "NodePort",
        "pullSecrets": '["registry-login"]',
    }


def test_no_login_no_pull_secret() -> None:
    assert "pullSecrets" not in stack_inputs.config(settings(), IMAGE, Registry("r.lab:5000"))


def test_the_stack_takes_each_setting_of_the_deployment() -> None:
    asked = {
        "namespace": "models",
        "replicas": 5,
        "tls_secret": "mnist-tls",
        "tls_clients": True,
        "token_secret": "tokens",
        "gateway": "outside",
        "gateway_namespace": "gateways",
        "rest_hostname": "mnist.example.com",
        "grpc_hostname": "grpc.example.com",
        "rest_listener": "https",
        "grpc_listener": "grpc",
        "max_replicas": 7,
        "memory_request": "1500Mi",
        "memory_limit": "2Gi",
        "cpu_request": "500m",
        "cpu_limit": "2",
        "target_cpu": 50,
        "scale_down_seconds": 0,
        "pod_monitor": True,
        "service_type": "NodePort",
    }
    drivers_own = {"by", "backend", "timeout"}
    assert set(DeploySettings.model_fields) == asked.keys() | drivers_own
    behind_a_gateway = {name for name in asked if name.startswith(("gateway", "rest_", "grpc_"))}
    for apart in (behind_a_gateway, {"tls_secret", "tls_clients"}):  # a Gateway speaks no TLS to pods
        wanted = {name: value for name, value in asked.items() if name not in apart}
        read = inputs.read(stack_inputs.config(settings(deploy=wanted), IMAGE, None))
        assert {name: getattr(read, name) for name in wanted} == wanted
