"""What the stack is given: only what somebody set, under the stack's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.core.schema import DeploySettings, Settings
from infra.core.types import Cluster, ImageRef, Registry
from infra.images.build import registry_of
from infra.rollout import stack_inputs
from stacks import inputs

IMAGE = ImageRef("r.lab:5000/mnist", "sha256:" + "a" * 64, "1", "portable", "half_plus_two", 7, "0")


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def test_only_what_somebody_set_is_passed_on() -> None:
    assert stack_inputs.config(settings(), IMAGE, None) == {
        "image": IMAGE.reference,
        "modelName": "half_plus_two",
        "createNamespace": "false",
    }
    asked = settings(deploy={"namespace": "models", "replicas": 5, "service_type": "NodePort"})
    assert stack_inputs.config(asked, IMAGE, Registry("r.lab:5000", "me", Path("p"))) == {
        "image": IMAGE.reference,
        "modelName": "half_plus_two",
        "createNamespace": "false",
        "namespace": "models",
        "replicas": "5",
        "serviceType": "NodePort",
        "pullSecret": "registry-login",
    }


def test_no_login_no_pull_secret() -> None:
    assert "pullSecret" not in stack_inputs.config(settings(), IMAGE, Registry("r.lab:5000"))


def test_nodes_pull_from_where_the_image_is_pushed_to(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("x")
    own = Registry("own:5000")
    brought = settings(image={"registry": "theirs:443", "username": "u", "password_file": tmp_path / "p"})
    cluster = Cluster(Path("k"), Path("kubectl"), "", (), own)
    foreign = Cluster(Path("k"), Path("kubectl"), "", (), None)
    theirs = Registry("theirs:443", "u", tmp_path / "p", None)
    for there in (cluster, foreign):  # a registry named since the cluster was made counts at once
        assert stack_inputs.registry(brought, there) == theirs == registry_of(brought, there)
    assert stack_inputs.registry(settings(), cluster) == own == registry_of(settings(), cluster)
    assert stack_inputs.registry(settings(), foreign) is None


def test_the_stack_takes_each_setting_of_the_deployment() -> None:
    asked = {"namespace": "models", "replicas": 5, "service_type": "NodePort"}
    drivers_own = {"by", "timeout"}
    assert set(DeploySettings.model_fields) == asked.keys() | drivers_own
    read = inputs.read(stack_inputs.config(settings(deploy=asked), IMAGE, None))
    assert {name: getattr(read, name) for name in asked} == asked
