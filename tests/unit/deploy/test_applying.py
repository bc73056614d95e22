"""What counts as a change, whose an object is, and the login a kubelet gets."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.kubectl import Change, KubectlError
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.registries import PULL_SECRET
from slipway.core.types import Login, Registry
from slipway.deploy.applying import Applier
from slipway.deploy.differences import compare, key_of
from slipway.deploy.ownership import manager, owner
from slipway.deploy.pull_secret import login

LIVE: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "d",
        "namespace": "n",
        "uid": "1",
        "resourceVersion": "10",
        "generation": 1,
        "labels": {"app": "x"},
        "annotations": {"deployment.kubernetes.io/revision": "1"},
    },
    "spec": {"replicas": 3, "containers": [{"name": "c", "image": "a"}]},
    "status": {"replicas": 1},
}


def changed(**paths: Any) -> dict[str, Any]:
    item = copy.deepcopy(LIVE)
    for path, value in paths.items():
        *parts, last = path.split("__")
        place: Any = item
        for part in parts:
            place = place[int(part) if part.isdigit() else part]
        place[last] = value
    return item


def lines(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    return [
        change.line()
        for change in compare({key_of(item): item for item in before}, {key_of(item): item for item in after})
    ]


def test_bookkeeping_is_no_change() -> None:
    later = changed(
        status={"replicas": 3},
        metadata__resourceVersion="11",
        metadata__generation=2,
        metadata__managedFields=[{"manager": "x"}],
        metadata__annotations={"deployment.kubernetes.io/revision": "2"},
    )
    assert lines([LIVE], [later]) == []


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"spec__replicas": 4}, "spec.replicas: 3 -> 4"),
    ({"spec__containers__0__image": "b"}, "spec.containers[0].image: a -> b"),
    ({"metadata__labels": {}}, "metadata.labels.app: x -> unset"),
    ({"spec__paused": True}, "spec.paused: unset -> True"),
    ({"spec__containers": []}, 'spec.containers: [{"name": "c", "image": "a"}] -> []'),
]


@pytest.mark.parametrize(("paths", "field"), CHANGES)
def test_each_field_is_told(paths: dict[str, Any], field: str) -> None:
    assert lines([LIVE], [changed(**paths)]) == [f"change Deployment d: {field}"]


def test_made_and_gone() -> None:
    assert lines([], [LIVE]) == ["create Deployment d"]
    assert lines([LIVE], []) == ["remove Deployment d"]


def test_a_long_list_of_fields_is_cut() -> None:
    change = Change("change", "Service", "s", tuple(f"f{number}: 1 -> 2" for number in range(6)))
    assert change.line() == "change Service s: f0: 1 -> 2; f1: 1 -> 2; f2: 1 -> 2; f3: 1 -> 2; and 2 more"


def managed(*entries: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries), **meta}}


MANAGERS = [
    ([{"manager": "slipway", "operation": "Apply"}], "slipway"),
    (
        [
            {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status"},
            {"manager": "kubectl", "operation": "Update", "subresource": "scale"},
            {"manager": "slipway", "operation": "Apply"},
        ],
        "slipway",
    ),
    (
        [{"manager": "kubectl-edit", "operation": "Update"}, {"manager": "slipway", "operation": "Apply"}],
        "slipway",
    ),
    ([{"manager": "helm", "operation": "Update"}], "helm"),
    (
        [
            {"manager": "kube-controller-manager", "operation": "Update"},
            {"manager": "pulumi-kubernetes-0a", "operation": "Apply"},
        ],
        "pulumi-kubernetes-0a",
    ),
    ([], ""),
]


@pytest.mark.parametrize(("entries", "name"), MANAGERS)
def test_whose_an_object_is(entries: list[dict[str, Any]], name: str) -> None:
    assert manager(managed(*entries)) == name


def test_an_owner_is_named_in_its_own_words() -> None:
    helm = managed({"manager": "helm"}, annotations={"meta.helm.sh/release-name": "models"})
    assert owner(helm) == "field manager helm, Helm release models"
    argo = managed({"manager": "argocd"}, labels={"app.kubernetes.io/managed-by": "argo"})
    assert owner(argo) == "field manager argocd, managed by argo"


def test_the_login_is_what_a_kubelet_reads(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3:cret\n")
    secret = login(Registry("r.lab:5000", "me", tmp_path / "password"))
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    entry = config["auths"]["r.lab:5000"]
    assert (entry["username"], entry["password"]) == ("me", "s3:cret")
    assert base64.b64decode(entry["auth"]) == b"me:s3:cret"


def test_where_there_is_a_login_that_only_pulls_no_other_gets_into_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("may-push\n")
    (tmp_path / "pull").write_text("may-pull\n")
    pull = Login("reader", tmp_path / "pull")
    secret = login(Registry("r.lab:5000", "me", tmp_path / "password", pull=pull))
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    entry = config["auths"]["r.lab:5000"]
    assert (entry["username"], entry["password"]) == ("reader", "may-pull")
    assert base64.b64decode(entry["auth"]) == b"reader:may-pull"
    (tmp_path / "pull").unlink()
    with pytest.raises(EnvironmentFault, match="cannot read the registry's password"):
        login(Registry("r.lab:5000", "me", tmp_path / "password", pull=pull))


def test_a_password_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot read the registry's password"):
        login(Registry("r.lab:5000", "me", tmp_path / "missing"))


class Secrets:
    """A cluster that keeps secrets by name."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.applied = 0

    def find(self, kind: str, name: str, *, namespace: str) -> dict[str, Any] | None:
        assert (kind, namespace) == ("secret", "serving")
        return self.held.get(name)

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        (secret,) = manifests
        assert secret["metadata"]["namespace"] == "serving"
        self.held[secret["metadata"]["name"]] = secret
        self.applied += 1


def test_the_login_is_written_once_and_again_when_it_changes(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("one\n")
    registry = Registry("r.lab:5000", "me", password)
    cluster = Secrets()
    applier = Applier(cluster, "serving", "set")  # type: ignore[arg-type]  # a stand-in
    assert [change.line() for change in applier.ensure_pull_secret(registry)] == [
        f"create Secret {PULL_SECRET}"
    ]
    assert applier.ensure_pull_secret(registry) == []
    assert cluster.applied == 1
    password.write_text("two\n")
    (change,) = applier.pull_secret_differs(registry)
    assert cluster.applied == 1  # asking changes nothing
    assert applier.ensure_pull_secret(registry) == [change]
    assert change.line() == f"change Secret {PULL_SECRET}"
    assert cluster.held[PULL_SECRET]["data"] == login(registry)["data"]


class Namespaced:
    """A kubectl whose user has rights in a namespace and none to the namespace itself."""

    def find(self, kind: str, name: str, *, namespace: str | None = None) -> None:
        if kind == "namespace":
            raise KubectlError(CommandError(("kubectl",), 1, "(Forbidden): namespaces is forbidden"), "here")


def test_who_may_not_look_at_a_namespace_neither_makes_nor_removes_it() -> None:
    applier = Applier(Namespaced(), "team", "set")  # type: ignore[arg-type]  # what is asked of it
    assert applier.namespace_is_missing() is False
    assert applier.ensure_namespace() == []
    assert applier.remove_rest(alone=True) == []
