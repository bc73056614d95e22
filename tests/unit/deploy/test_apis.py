"""Kinds that a cluster does not know are named before anything is applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core.errors import CommandError, DeployError
from slipway.core.process import Completed
from slipway.deploy.apis import refuse_unknown, without_effect

API = "gateway.networking.k8s.io/v1"
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment"}
MONITOR = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor"}
AUTOSCALER = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
ROUTES = [{"apiVersion": API, "kind": "HTTPRoute"}, {"apiVersion": API, "kind": "GRPCRoute"}]


class Server(Kubectl):
    """Answers what an API server has at a path; not found where it has nothing."""

    def run(self, args: Any, *more: Any, **others: Any) -> Completed:
        (verb, raw, path) = args
        assert (verb, raw) == ("get", "--raw")
        if path not in HAS:
            raise KubectlError(
                CommandError(args, 1, "Error from server (NotFound): the server could not find it"), "here"
            )
        return Completed((), 0, json.dumps({"resources": [{"kind": kind} for kind in HAS[path]]}), "")


HAS: dict[str, list[str]] = {}


@pytest.fixture
def server() -> Server:
    HAS.clear()
    return Server(Path("kubectl"), Path("kubeconfig"))


def test_kubernetes_own_kinds_are_not_asked_for(server: Server) -> None:
    refuse_unknown(server, [DEPLOYMENT])


def test_a_cluster_that_has_the_kinds_is_taken(server: Server) -> None:
    HAS[f"/apis/{API}"] = ["Gateway", "HTTPRoute", "GRPCRoute"]
    refuse_unknown(server, [DEPLOYMENT, *ROUTES])


@pytest.mark.parametrize(
    ("has", "lacking"), [(["HTTPRoute"], ["GRPCRoute"]), (None, ["GRPCRoute", "HTTPRoute"])]
)
def test_what_is_missing_is_named(server: Server, has: list[str] | None, lacking: list[str]) -> None:
    if has is not None:
        HAS[f"/apis/{API}"] = has
    with pytest.raises(DeployError) as caught:
        refuse_unknown(server, [DEPLOYMENT, *ROUTES])
    assert caught.value.what == "the cluster has no " + " and no ".join(f"{kind} ({API})" for kind in lacking)
    assert "install the Gateway API" in caught.value.action


def test_a_monitor_without_the_operator_is_refused_with_another_way(server: Server) -> None:
    with pytest.raises(DeployError, match=r"no PodMonitor \(monitoring.coreos.com/v1\)") as caught:
        refuse_unknown(server, [DEPLOYMENT, MONITOR])
    assert "leave deploy.pod_monitor (podMonitor) false" in caught.value.action
    HAS["/apis/monitoring.coreos.com/v1"] = ["PodMonitor"]
    refuse_unknown(server, [DEPLOYMENT, MONITOR])


def test_an_autoscaler_that_nothing_measures_for_is_told_of(server: Server) -> None:
    assert without_effect(server, [DEPLOYMENT]) == []
    (sentence,) = without_effect(server, [DEPLOYMENT, AUTOSCALER])
    assert "nothing in the cluster measures pods" in sentence
    HAS["/apis/metrics.k8s.io/v1beta1"] = ["NodeMetrics", "PodMetrics"]
    assert without_effect(server, [DEPLOYMENT, AUTOSCALER]) == []


def test_an_api_whose_server_is_away_measures_nothing() -> None:
    class Away(Kubectl):
        said = "Error from server (ServiceUnavailable): the server is currently unable to handle the request"

        def run(self, args: Any, *more: Any, **others: Any) -> Completed:
            raise KubectlError(CommandError(args, 1, self.said), "here")

    class Silent(Away):
        said = "Unable to connect to the server: EOF"

    assert len(without_effect(Away(Path("kubectl"), Path("kubeconfig")), [AUTOSCALER])) == 1
    with pytest.raises(KubectlError):
        without_effect(Silent(Path("kubectl"), Path("kubeconfig")), [AUTOSCALER])
