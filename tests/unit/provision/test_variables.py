"""What the roles are told of disks and of the registry's logins."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway.artifacts import KubernetesArtifacts
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Hosts, Login, Registry
from slipway.provision import variables

FOUND = KubernetesArtifacts(
    source="release",
    version="1.36.3",
    binaries=Path("bin"),
    kubectl=Path("bin/kubectl"),
    images=(),
    worker_images=(),
    flannel_image="flannel:1",
    network_policy_image="netpol:1",
    metrics_server_image="metrics:1",
    sandbox_image="pause:3",
)


@pytest.mark.parametrize("asked", [None, True, False])
def test_whether_pods_are_measured_is_the_roles_to_say_unless_somebody_asked(
    asked: bool | None, tmp_path: Path
) -> None:
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path)
    settings = Settings.model_validate({"cluster": {"metrics_server": asked}})
    found = variables.for_all(ctx, settings, Hosts("ssh", ()), FOUND, None)
    assert found.get("metrics_server_enabled") is asked
    assert found["metrics_server_image"] == "metrics:1"


def test_containerd_is_brought_along_when_somebody_asked(tmp_path: Path) -> None:
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path)
    settings = Settings.model_validate({"cluster": {"containerd_source": "files"}})
    found = variables.for_all(ctx, settings, Hosts("ssh", ()), FOUND, None, containerd=tmp_path)
    assert found["kubernetes_node_containerd_source"] == "files"
    assert found["kubernetes_node_containerd_binaries"] == str(tmp_path)
    assert not [name for name in told("ssh", tmp_path) if "containerd" in name], (
        "the role's default otherwise"
    )


def told(backend: str, tmp_path: Path, login: Registry | None = None) -> dict[str, object]:
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path)
    return variables.for_all(ctx, Settings(), Hosts(backend, ()), FOUND, login)


def test_no_threshold_of_a_lab_host_is_a_share_of_this_machines_disk(tmp_path: Path) -> None:
    found = told("nspawn", tmp_path)
    eviction = found["kubernetes_node_eviction_hard"]
    assert isinstance(eviction, dict)
    # every signal that the kubelet gives a default, none of them a share; 0% is off
    disk = [f"{name}.{what}" for name in ("nodefs", "imagefs") for what in ("available", "inodesFree")]
    assert set(eviction) == {"memory.available", *disk}
    assert not [value for value in eviction.values() if "%" in value.replace("0%", "", 1)]
    assert found["kubernetes_node_image_gc_percent"] == 100


@pytest.mark.parametrize("name", ["kubernetes_node_eviction_hard", "kubernetes_node_image_gc_percent"])
def test_a_machine_of_its_own_keeps_the_roles_defaults(name: str, tmp_path: Path) -> None:
    assert name not in told("ssh", tmp_path)


def test_the_login_that_only_pulls_is_told_where_there_is_one(tmp_path: Path) -> None:
    own = Registry("r:5000", "me", tmp_path / "push", pull=Login("reader", tmp_path / "pull"))
    found = told("ssh", tmp_path, own)
    assert (found["registry_username"], found["registry_password_file"]) == ("me", str(tmp_path / "push"))
    assert found["registry_pull_username"] == "reader"
    assert found["registry_pull_password_file"] == str(tmp_path / "pull")
    theirs = told("ssh", tmp_path, Registry("r:5000", "me", tmp_path / "push"))
    assert not [name for name in theirs if name.startswith("registry_pull")]
