"""Deploying to a real API: applied, compared, repaired, pruned, refused, removed, and failures told early."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from slipway.clients import pulumi_render
from slipway.clients.endpoints import find_endpoints
from slipway.clients.kubectl import Kubectl
from slipway.core.errors import DeployError
from slipway.core.evidence import gather
from slipway.core.registries import PULL_SECRET
from slipway.core.retry import Pending, wait_for
from slipway.core.types import Cluster, Registry
from slipway.deploy import leaving
from slipway.deploy.applying import Applier
from slipway.deploy.deployed import APPLYSET

from tests.stacks import control_plane
from tests.stacks.desk import CANARY, CRASH, GOOD, NO_PULL, OTHER, Desk

pytestmark = pytest.mark.lab


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
    saved = gather(desk.ctx, {"deploy": lambda: desk.stage.collect(desk.ctx)}).files
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


def test_the_autoscalers_count_stands(desk: Desk) -> None:
    """Turning it on takes no replica away, and a later deploy does not undo what it has done."""
    desk.up()
    applier = Applier(desk.plane.kubectl, desk.namespace, APPLYSET)
    config = {"image": desk.image().reference, "namespace": desk.namespace, "createNamespace": "false"}
    scaled = pulumi_render.render({**config, "maxReplicas": "5"}).manifests

    def count() -> int:
        return int(desk.get("deployment", "mnist-deployment")["spec"]["replicas"])

    applier.apply(scaled, applier.held(scaled))
    assert count() == 3
    desk.plane.kubectl.run(["scale", "deployment/mnist-deployment", "--replicas=4", "-n", desk.namespace])
    assert applier.plan(scaled, applier.held(scaled)) == []
    assert applier.apply(scaled, applier.held(scaled)) == []
    assert count() == 4
    desk.plane.kubectl.run(["scale", "deployment/mnist-deployment", "--replicas=1", "-n", desk.namespace])
    applier.apply(scaled, applier.held(scaled))
    assert count() == 3


def test_what_the_program_no_longer_has_is_removed(desk: Desk) -> None:
    desk.up()
    applier = Applier(desk.plane.kubectl, desk.namespace, APPLYSET)
    config = {"image": desk.image().reference, "namespace": desk.namespace, "createNamespace": "false"}
    scaled = pulumi_render.render({**config, "maxReplicas": "5"}).manifests
    changes = applier.apply(scaled, applier.held(scaled))
    assert "create HorizontalPodAutoscaler mnist-server" in [change.line() for change in changes]
    plain = pulumi_render.render(config).manifests
    planned = applier.plan(plain, applier.held(plain))
    assert "remove HorizontalPodAutoscaler mnist-server" in [change.line() for change in planned]
    assert desk.get("hpa")["items"] != []
    changes = applier.apply(plain, applier.held(plain))
    assert "remove horizontalpodautoscaler mnist-server" in [change.line() for change in changes]
    assert desk.get("hpa")["items"] == []
    assert desk.get("secret", PULL_SECRET)  # not of the set: pruning leaves it


def test_another_server_gets_the_probes_and_the_time_that_fit_it(desk: Desk) -> None:
    """The API takes them, and the image says which server it holds: from one to the other and back."""
    desk.up()

    def deploy(server: Literal["portable", "tensorflow"], last: str) -> dict[str, Any]:
        found = desk.stage.run(desk.ctx, desk.settings(), desk.cluster, desk.image(last, server))
        assert len(found.value.replicas) == 3
        spec = desk.get("deployment", "mnist-deployment")["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        probes = {
            kind
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            for kind in ("grpc", "httpGet", "tcpSocket")
            if kind in container[probe]
        }
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        return {
            "probes": probes,
            "grace": spec["terminationGracePeriodSeconds"],
            "sleep": sleep,
            "env": [one["name"] for one in container.get("env", [])],
        }

    assert deploy("tensorflow", OTHER) == {
        "probes": {"httpGet"},
        "grace": 36,
        "sleep": 35,
        "env": ["MODEL_NAME"],
    }
    assert deploy("portable", GOOD) == {"probes": {"grpc"}, "grace": 35, "sleep": 5, "env": []}


def test_destroy_takes_what_was_made_and_nothing_else(desk: Desk) -> None:
    kubectl = desk.plane.kubectl
    kubectl.run(["create", "namespace", desk.namespace])
    kubectl.run(["create", "configmap", "theirs", "-n", desk.namespace])
    desk.up()
    lines = leaving.destroy(desk.ctx, desk.settings(), desk.cluster)
    assert f"remove ConfigMap {APPLYSET}" in lines
    assert f"remove Namespace {desk.namespace}" not in lines  # it was there before
    left = desk.get("deployment,service,pdb,networkpolicy,secret")["items"]
    assert left == []
    names = {item["metadata"]["name"] for item in desk.get("configmap,serviceaccount")["items"]}
    assert "theirs" in names
    assert not names & {APPLYSET, "mnist-server"}
    assert leaving.destroy(desk.ctx, desk.settings(), desk.cluster) == []


def test_destroy_takes_the_namespace_it_made(desk: Desk) -> None:
    desk.up()
    assert f"remove Namespace {desk.namespace}" in leaving.destroy(desk.ctx, desk.settings(), desk.cluster)
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
    manifests = pulumi_render.render({"image": desk.image().reference}).manifests
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
