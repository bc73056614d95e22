"""Whether a cluster has what is declared, and what that needs to have an effect: extensions may lack."""

from __future__ import annotations

import json
from collections.abc import Sequence

from slipway.clients.kubectl import Kubectl, KubectlError, Manifest
from slipway.core.errors import DeployError

# Groups of the Kubernetes API itself that the stack declares objects of; a cluster always has them.
_BUILT_IN = ("v1", "apps/v1", "autoscaling/v2", "networking.k8s.io/v1", "policy/v1")
_ACTIONS = {
    "gateway.networking.k8s.io": "install the Gateway API (its CRDs, and a controller that makes Gateways), "
    "or unset deploy.gateway",
    "monitoring.coreos.com": "install the Prometheus operator, or leave deploy.pod_monitor (podMonitor) "
    "false: a Prometheus that looks for annotated pods finds the replicas anyway",
}
_MEASUREMENTS = "metrics.k8s.io/v1beta1"


def refuse_unknown(kubectl: Kubectl, manifests: Sequence[Manifest]) -> None:
    """Raise DeployError, naming them, for objects of a kind that the cluster does not serve.

    Asked once for each API that is not Kubernetes' own; nothing is asked where there is none.
    """
    missing: dict[str, set[str]] = {}
    for version in sorted({item["apiVersion"] for item in manifests} - set(_BUILT_IN)):
        kinds = {item["kind"] for item in manifests if item["apiVersion"] == version}
        if lacking := kinds - _served(kubectl, version):
            missing[version] = lacking
    if not missing:
        return
    told = [f"{kind} ({version})" for version, kinds in missing.items() for kind in sorted(kinds)]
    actions = [_ACTIONS.get(version.partition("/")[0], f"install the API {version}") for version in missing]
    raise DeployError(
        f"the cluster has no {' and no '.join(told)}",
        where="asked of the API server before anything was applied",
        action="; ".join(actions),
    )


def without_effect(kubectl: Kubectl, manifests: Sequence[Manifest]) -> list[str]:
    """What the cluster will take and do nothing with, one sentence each."""
    if not any(item["kind"] == "HorizontalPodAutoscaler" for item in manifests):
        return []
    if "PodMetrics" in _served(kubectl, _MEASUREMENTS):
        return []
    return [
        f"nothing in the cluster measures pods ({_MEASUREMENTS}), so the autoscaler will leave the count of "
        "replicas as it is; metrics-server does (cluster.metrics_server, where slipway sets up the cluster)"
    ]


def _served(kubectl: Kubectl, version: str) -> set[str]:
    try:
        answer = json.loads(kubectl.run(["get", "--raw", f"/apis/{version}"]).stdout)
    except KubectlError as error:
        # an API whose server is away is known, and serves nothing
        if error.reason == "not_found" or "(ServiceUnavailable)" in error.output:
            return set()
        raise
    return {str(item["kind"]) for item in answer["resources"]}
