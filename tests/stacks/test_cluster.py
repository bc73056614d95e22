"""Deploying to a real API: applied, compared, repaired, pruned, refused, removed, and failures told early."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import control_plane
import pytest

from infra import deploy
from infra.clients import pulumi_stack
from infra.clients.kubectl import Kubectl, find_endpoints
from infra.core.context import Context
from infra.core.errors import DeployError
from infra.core.events import Event, Note
from infra.core.retry import Pending, wait_for
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Cluster, Endpoints, ImageRef, Outcome, Registry
from infra.rollout.applying import APPLYSET, PULL_SECRET, Applier

pytestmark = pytest.mark.lab
CANARY = "canary-of-the-password"
GOOD, OTHER, NO_PULL, CRASH = "a", "d", "b", "c"  # see control_plane


@dataclass
class Desk:
    """One namespace of the cluster and one state folder, as a user has them."""

    plane: control_plane.ControlPlane
    folder: Path
    namespace: str
    events: list[Event] = field(default_factory=list)
    stage: deploy.Deploy = field(default_factory=deploy.Deploy)

    @property
    def ctx(self) -> Context:
        return Context(
            State(self.folder / ".slipway"), self.folder / "run", self.folder, emit=self.events.append
        )

    @property
    def cluster(self) -> Cluster:
        password = self.folder / "password"
        password.write_text(f"{CANARY}\n")
        registry = Registry("registry.lab:5000", "slipway", password)
        return Cluster(self.plane.kubeconfig, self.plane.binary, "", (), registry)

    def image(self, last: str = GOOD) -> ImageRef:
        return ImageRef("registry.lab:5000/mnist", f"sha256:{last * 64}", "1", "portable", "mnist", 1, "0")

    def settings(self, **more: Any) -> Settings:
        return Settings.model_validate(
            {"deploy": {"namespace": self.namespace, "timeout": 300, "by": "render"} | more}
        )

    def up(self, last: str = GOOD, **more: Any) -> Outcome[Endpoints]:
        return self.stage.run(self.ctx, self.settings(**more), self.cluster, self.image(last))

    def plan(self, last: str = GOOD, **more: Any) -> list[str]:
        return self.stage.plan(self.ctx, self.settings(**more), self.cluster, self.image(last))

    def get(self, *args: str) -> Any:
        return json.loads(self.plane.kubectl.run(["get", *args, "-n", self.namespace, "-o", "json"]).stdout)

    def versions(self) -> dict[tuple[str, str], str]:
        """What changes when anything about our objects does; status of pods included."""
        kinds = "deployment,service,serviceaccount,networkpolicy,pdb,secret,pod,configmap"
        return {
            (item["kind"], item["metadata"]["name"]): item["metadata"]["resourceVersion"]
            for item in self.get(kinds)["items"]
        }


@pytest.fixture
def desk(plane: control_plane.ControlPlane, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    yield Desk(plane, tmp_path, name)
    plane.kubectl.run(["delete", "namespace", name, "--ignore-not-found", "--wait=false"])


def test_up_then_up_again(desk: Desk) -> None:
    planned = desk.plan()
    first = desk.up()
    assert first.changed == len(planned)
    replicas = first.value.replicas
    assert len(replicas) == 3
    assert {replica.node for replica in replicas} == set(control_plane.NODES)
    assert {(replica.grpc_port, replica.rest_port) for replica in replicas} == {(8500, 8501)}
    pods = {pod["metadata"]["name"]: pod for pod in desk.get("pods")["items"]}
    for replica in replicas:
        assert pods[replica.pod]["status"]["podIP"] == replica.address
        assert pods[replica.pod]["spec"]["containers"][0]["image"] == desk.image().reference
    assert first.value.service_address == desk.get("service", "mnist-service")["spec"]["clusterIP"]

    before = desk.versions()
    assert desk.plan() == []
    assert desk.versions() == before
    second = desk.up()
    assert second.changed == 0
    assert second.value == first.value
    assert desk.versions() == before
    assert "nothing changed" in second.summary


def test_a_plan_changes_nothing_and_tells_each_field(desk: Desk) -> None:
    assert desk.plan()[0] == f"create Namespace {desk.namespace}"
    assert desk.plane.kubectl.find("namespace", desk.namespace) is None
    desk.up()
    before = desk.versions()
    assert desk.plan(replicas=2) == ["change Deployment mnist-deployment: spec.replicas: 3 -> 2"]
    (line,) = desk.plan(OTHER)
    assert "spec.template.spec.containers[0].image" in line
    assert desk.versions() == before
    assert desk.up(replicas=2).changed == 1
    assert desk.plan(replicas=2) == []


def test_what_was_changed_by_hand_is_set_back(desk: Desk) -> None:
    desk.up()
    desk.plane.kubectl.run(["scale", "deployment/mnist-deployment", "--replicas=1", "-n", desk.namespace])
    assert desk.plan() == ["change Deployment mnist-deployment: spec.replicas: 1 -> 3"]
    again = desk.up()
    assert (again.changed, len(again.value.replicas)) == (1, 3)


def test_the_login_is_made_once_and_follows_the_password(desk: Desk) -> None:
    desk.up()
    held = desk.get("secret", PULL_SECRET)
    assert held["type"] == "kubernetes.io/dockerconfigjson"
    assert "annotations" not in held["metadata"]  # kubectl's last-applied would hold the password again
    other = desk.folder / "other"
    other.write_text("changed")
    cluster = Cluster(
        desk.plane.kubeconfig, desk.plane.binary, "", (), Registry("registry.lab:5000", "slipway", other)
    )
    planned = desk.stage.plan(desk.ctx, desk.settings(), cluster, desk.image())
    assert planned == [f"change Secret {PULL_SECRET}"]
    assert desk.stage.run(desk.ctx, desk.settings(), cluster, desk.image()).changed == 1
    assert desk.get("secret", PULL_SECRET)["data"] != held["data"]


def test_no_secret_in_events_or_evidence(desk: Desk) -> None:
    with pytest.raises(DeployError):
        desk.up(NO_PULL)
    saved = desk.stage.collect(desk.ctx)
    assert {"objects.yaml", "events.txt", "describe.txt", "nodes.txt"} <= {path.name for path in saved}
    everything = repr(desk.events) + "".join(
        path.read_text(errors="replace")
        for path in desk.folder.rglob("*")
        if path.is_file() and path.name != "password"
    )
    assert "mnist-deployment" in everything
    encoded = json.loads(json.dumps(desk.get("secret", PULL_SECRET)["data"][".dockerconfigjson"]))
    assert CANARY not in everything
    assert encoded not in everything


def test_an_image_that_cannot_be_pulled(desk: Desk) -> None:
    first = desk.up()
    with pytest.raises(DeployError) as caught:
        desk.up(NO_PULL)
    text = "\n".join(caught.value.lines())
    failing = next(
        pod for pod in desk.get("pods")["items"] if pod["spec"]["containers"][0]["image"].endswith("b")
    )
    for part in (
        failing["metadata"]["name"],
        failing["spec"]["nodeName"],
        "mnist-container",
        "ImagePullBackOff",
        "not found",
        "0 of 3 replicas are ready",
        "3 of the earlier revision go on serving",
        "what to do",
    ):
        assert part in text
    found = find_endpoints(desk.plane.kubectl, desk.namespace, "mnist-deployment", "mnist-service", "render")
    assert found.endpoints.replicas == first.value.replicas
    # and the next, right image goes in without anybody cleaning up
    assert len(desk.up(OTHER).value.replicas) == 3


def test_a_server_that_crashes(desk: Desk) -> None:
    with pytest.raises(DeployError) as caught:
        desk.up(CRASH)
    assert "ends again and again (3 times, Error, exit code 1)" in caught.value.what
    assert "ValueError: no model in /models/mnist" in caught.value.tail
    assert any(node in caught.value.where for node in control_plane.NODES)


def test_a_quota_that_leaves_no_room(desk: Desk) -> None:
    desk.plane.kubectl.run(["create", "namespace", desk.namespace])
    desk.plane.kubectl.run(["create", "quota", "small", "--hard=pods=1", "-n", desk.namespace])
    # the quota controller must have counted, or admission lets everything through
    wait_for(
        "the quota to count",
        lambda: desk.get("quota", "small")["status"]["used"],
        timeout=30,
        retry_on=(KeyError,),
    )
    with pytest.raises(DeployError) as caught:
        desk.up()
    assert "exceeded quota: small" in caught.value.tail
    assert "1 of 3 replicas are ready" in caught.value.what
    assert "ResourceQuota" in caught.value.action


def test_no_node_takes_the_pods(desk: Desk) -> None:
    kubectl = desk.plane.kubectl
    for node in control_plane.NODES:
        kubectl.run(["taint", "node", node, "full=yes:NoSchedule"])
    try:
        with pytest.raises(DeployError) as caught:
            desk.up()
    finally:
        for node in control_plane.NODES:
            kubectl.run(["taint", "node", node, "full-"])
    assert "no node takes the pod" in caught.value.what
    assert "untolerated taint" in caught.value.tail
    assert len(desk.up().value.replicas) == 3


def test_another_tools_deployment_is_left_alone(desk: Desk) -> None:
    kubectl = desk.plane.kubectl
    kubectl.run(["create", "namespace", desk.namespace])
    kubectl.run(
        ["create", "deployment", "mnist-deployment", "--image=x/y:1", "--replicas=0", "-n", desk.namespace]
    )
    before = desk.get("deployment", "mnist-deployment")["metadata"]["resourceVersion"]
    with pytest.raises(DeployError) as caught:
        desk.up()
    assert "Deployment mnist-deployment exists already" in caught.value.what
    assert "kubectl-create" in caught.value.tail
    assert desk.get("deployment", "mnist-deployment")["metadata"]["resourceVersion"] == before
    assert desk.get("serviceaccounts")["items"] == [] or PULL_SECRET not in json.dumps(desk.get("secrets"))


def test_what_the_program_no_longer_has_is_removed(desk: Desk) -> None:
    desk.up()
    applier = Applier(desk.plane.kubectl, desk.namespace)
    config = {"image": desk.image().reference, "namespace": desk.namespace, "createNamespace": "false"}
    scaled = pulumi_stack.render({**config, "maxReplicas": "5"}).manifests
    changes = applier.apply(scaled, applier.held(scaled))
    assert "create HorizontalPodAutoscaler mnist-server" in [change.line() for change in changes]
    plain = pulumi_stack.render(config).manifests
    planned = applier.plan(plain, applier.held(plain))
    assert "remove HorizontalPodAutoscaler mnist-server" in [change.line() for change in planned]
    assert desk.get("hpa")["items"] != []
    changes = applier.apply(plain, applier.held(plain))
    assert "remove horizontalpodautoscaler mnist-server" in [change.line() for change in changes]
    assert desk.get("hpa")["items"] == []
    assert desk.get("secret", PULL_SECRET)  # not of the set: pruning leaves it


def test_destroy_takes_what_was_made_and_nothing_else(desk: Desk) -> None:
    kubectl = desk.plane.kubectl
    kubectl.run(["create", "namespace", desk.namespace])
    kubectl.run(["create", "configmap", "theirs", "-n", desk.namespace])
    desk.up()
    lines = deploy.destroy(desk.ctx, desk.settings(), desk.cluster)
    assert f"remove ConfigMap {APPLYSET}" in lines
    assert f"remove Namespace {desk.namespace}" not in lines  # it was there before
    left = desk.get("deployment,service,pdb,networkpolicy,secret")["items"]
    assert left == []
    names = {item["metadata"]["name"] for item in desk.get("configmap,serviceaccount")["items"]}
    assert "theirs" in names
    assert not names & {APPLYSET, "mnist-server"}
    assert deploy.destroy(desk.ctx, desk.settings(), desk.cluster) == []


def test_destroy_takes_the_namespace_it_made(desk: Desk) -> None:
    desk.up()
    assert f"remove Namespace {desk.namespace}" in deploy.destroy(desk.ctx, desk.settings(), desk.cluster)
    assert desk.plane.kubectl.find("namespace", desk.namespace) is None
    assert len(desk.up().value.replicas) == 3


def test_an_earlier_namespace_is_not_left_behind(desk: Desk) -> None:
    desk.up()
    with pytest.raises(DeployError, match=f"runs in namespace {desk.namespace}"):
        desk.up(namespace="elsewhere")
    assert desk.plane.kubectl.find("namespace", "elsewhere") is None


def test_a_relabelled_pod_is_named(desk: Desk) -> None:
    victim = desk.up().value.replicas[0]
    desk.plane.kubectl.run(["label", "pod", victim.pod, "app=stray", "--overwrite", "-n", desk.namespace])

    def settled() -> Any:
        found = find_endpoints(
            desk.plane.kubectl, desk.namespace, "mnist-deployment", "mnist-service", "render"
        )
        if len(found.endpoints.replicas) < 3:
            raise Pending(str(found))
        return found

    found = wait_for("a successor", settled, timeout=60)
    assert [(stray.pod, stray.node) for stray in found.strays] == [(victim.pod, victim.node)]
    assert "app=stray" in found.strays[0].reason
    assert victim.pod not in {replica.pod for replica in found.endpoints.replicas}


def test_a_pod_of_somebody_else_behind_the_service_is_named(desk: Desk) -> None:
    desk.up()
    kubectl: Kubectl = desk.plane.kubectl
    manifests = pulumi_stack.render({"image": desk.image().reference}).manifests
    (deployment,) = [item for item in manifests if item["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    spec = {**template["spec"], "topologySpreadConstraints": []}
    # without pod-template-hash our ReplicaSet does not adopt it
    meta = {"name": "intruder", "namespace": desk.namespace, "labels": template["metadata"]["labels"]}
    kubectl.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}])

    def seen() -> Any:
        found = find_endpoints(kubectl, desk.namespace, "mnist-deployment", "mnist-service", "render")
        if not found.strays or "answers behind" not in found.strays[0].reason:
            raise Pending(str(found))
        return found

    found = wait_for("the intruder behind the Service", seen, timeout=60)
    assert [stray.pod for stray in found.strays] == ["intruder"]
    assert len(found.endpoints.replicas) == 3


def test_the_choice_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi_stack, "find_cli", lambda: None)
    desk.up(by="auto")
    notes = [event.text for event in desk.events if isinstance(event, Note)]
    assert "deploy by render: there is no `pulumi` on PATH" in notes
    desk.events.clear()
    monkeypatch.setattr(pulumi_stack, "find_cli", lambda: Path("/bin/pulumi"))
    desk.up(by="auto")
    notes = [event.text for event in desk.events if isinstance(event, Note)]
    assert "deploy by render: the deployment there was made by render" in notes
