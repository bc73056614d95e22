"""Routes of the Gateway API, judged by its own definitions in a real API server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway.artifacts import golang
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import DeployError
from slipway.core.retry import wait_for
from slipway.core.state import State
from slipway_stacks.gateway import API

from tests.stacks import control_plane
from tests.stacks.desk import Desk

pytestmark = pytest.mark.lab
MODULE = "sigs.k8s.io/gateway-api@v1.4.1"
ROOT = Path(__file__).parents[2]
KINDS = ("gatewayclasses", "gateways", "httproutes", "grpcroutes")
OUTSIDE = {
    "gateway": "outside",
    "gateway_namespace": "gateways",
    "rest_hostname": "mnist.example.com",
    "grpc_hostname": "grpc.mnist.example.com",
}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the API's definitions, out of its Go module."""
    folder = tmp_path_factory.mktemp("gateway-api")
    go = golang.ensure(Context(State(folder / ".slipway"), folder / "run", folder))
    done = process.run(
        [go.command, "mod", "download", "-json", MODULE],
        env={**os.environ, "GOFLAGS": ""},
        cwd=folder,
        timeout=300,
    )
    return Path(json.loads(done.stdout)["Dir"]) / "config" / "crd" / "standard"


@pytest.fixture(scope="module")
def with_api(plane: control_plane.ControlPlane, definitions: Path) -> Iterator[Kubectl]:
    files = [f"--filename={definitions / f'gateway.networking.k8s.io_{kind}.yaml'}" for kind in KINDS]
    plane.kubectl.run(["apply", "--server-side", *files])
    names = [f"crd/{kind}.gateway.networking.k8s.io" for kind in KINDS]
    plane.kubectl.run(["wait", "--for=condition=Established", "--timeout=60s", *names])
    wait_for(
        "the API to be served",
        lambda: plane.kubectl.run(["get", "--raw", f"/apis/{API}"]),
        timeout=30,
        retry_on=(KubectlError,),
    )
    yield plane.kubectl
    plane.kubectl.run(["delete", *names], timeout=120)


def routes(desk: Desk) -> dict[str, Any]:
    return {item["kind"]: item for item in desk.get("httproutes,grpcroutes")["items"]}


def test_a_cluster_without_the_api_is_told_before_anything_is_applied(desk: Desk) -> None:
    with pytest.raises(DeployError) as caught:
        desk.plan(**OUTSIDE)
    assert f"the cluster has no GRPCRoute ({API}) and no HTTPRoute ({API})" == caught.value.what
    with pytest.raises(DeployError, match="has no GRPCRoute"):
        desk.up(**OUTSIDE)
    assert desk.plane.kubectl.find("namespace", desk.namespace) is None


def test_routes_come_stay_and_go(desk: Desk, with_api: Kubectl) -> None:
    planned = desk.plan(**OUTSIDE)
    assert {"create HTTPRoute mnist-server", "create GRPCRoute mnist-server"} <= set(planned)
    first = desk.up(**OUTSIDE)
    assert first.changed == len(planned)
    found = routes(desk)
    for kind, host, port in (
        ("HTTPRoute", "mnist.example.com", 8501),
        ("GRPCRoute", "grpc.mnist.example.com", 8500),
    ):
        spec = found[kind]["spec"]
        (parent,) = spec["parentRefs"]
        assert (parent["name"], parent["namespace"], spec["hostnames"]) == ("outside", "gateways", [host])
        (backend,) = spec["rules"][0]["backendRefs"]
        assert (backend["name"], backend["port"]) == ("mnist-service", port)
    assert desk.plan(**OUTSIDE) == []
    assert desk.up(**OUTSIDE).changed == 0
    assert "remove httproute mnist-server" in " ".join(desk.plan()).lower()
    desk.up()
    assert routes(desk) == {}


def test_the_manuals_gateway_and_the_definitions_themselves(desk: Desk, with_api: Kubectl) -> None:
    """What the page shows is taken, and what is wrong is not: else the tests above say little."""
    page = (ROOT / "docs" / "component.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?kind: Gateway\n.*?)```", page, re.DOTALL)
    apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"]
    with_api.run(apply, input=shown.replace("namespace: gateways", "namespace: default"))
    for right, wrong in (("protocol: HTTPS", "protocols: HTTPS"), ("port: 443", "port: 443443")):
        assert right in shown
        with pytest.raises(KubectlError):
            with_api.run(apply, input=shown.replace("gateways", "default").replace(right, wrong))
