"""The component: everything one model server needs in a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from stacks import outputs, pod
from stacks.inputs import Inputs

NO_WAIT = {"pulumi.com/skipAwait": "true"}


@dataclass(frozen=True)
class ModelServerArgs:
    """What a ModelServer is made from."""

    image: pulumi.Input[str]
    """The serving image by digest; may be another resource's output."""
    inputs: Inputs
    """Everything that must be known before the program runs: names, numbers, which objects there are."""


class ModelServer(pulumi.ComponentResource):
    """Deployment and Service of one model, and what guards them.

    Objects have set names, not generated ones: people and tools look for them. Logical names are the
    same constants and follow no setting, for a changed logical name deletes and makes anew.
    """

    namespace: pulumi.Output[str]
    """Namespace the objects are in."""
    image: pulumi.Output[str]
    """The image as deployed."""

    def __init__(self, name: str, args: ModelServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:serving:ModelServer", name, {}, opts)
        inputs = args.inputs
        needs: list[pulumi.Resource] = []
        if inputs.create_namespace:
            needs.append(
                kubernetes.core.v1.Namespace(
                    "namespace",
                    metadata={"name": inputs.namespace, "labels": dict(outputs.NAMESPACE_LABELS)},
                    opts=pulumi.ResourceOptions(parent=self),
                )
            )
        # Objects before the Deployment that they guard or that its pods name
        in_namespace = pulumi.ResourceOptions(parent=self, depends_on=needs)
        guards: list[pulumi.Resource] = [
            kubernetes.core.v1.ServiceAccount(
                "service-account",
                metadata=_metadata(inputs, outputs.SERVICE_ACCOUNT),
                automount_service_account_token=False,
                opts=in_namespace,
            ),
            kubernetes.networking.v1.NetworkPolicy(
                "network-policy",
                metadata=_metadata(inputs, outputs.NETWORK_POLICY),
                spec=network_rules(),
                opts=in_namespace,
            ),
        ]
        deployment = kubernetes.apps.v1.Deployment(
            "deployment",
            metadata=_metadata(inputs, outputs.DEPLOYMENT, wait=inputs.await_ready),
            spec=deployment_spec(inputs, args.image),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*needs, *guards]),
        )
        if inputs.service_type == "LoadBalancer" and not inputs.await_load_balancer:
            pulumi.log.warn(
                f"{outputs.SERVICE} is of type LoadBalancer and nothing is known to hand out addresses here: "
                "not waiting for one. Set slipway:awaitLoadBalancer to true where something does.",
                self,
            )
        wait = inputs.await_ready and (inputs.service_type != "LoadBalancer" or inputs.await_load_balancer)
        # after the Deployment: Pulumi waits for a Service until it has ready pods behind it
        after = pulumi.ResourceOptions(parent=self, depends_on=[deployment])
        kubernetes.core.v1.Service(
            "service",
            metadata=_metadata(inputs, outputs.SERVICE, wait=wait),
            spec=service_spec(inputs),
            opts=after,
        )
        kubernetes.core.v1.Service(
            "replicas",
            metadata=_metadata(inputs, outputs.REPLICAS, wait=inputs.await_ready),
            spec=replicas_spec(),
            opts=after,
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            "disruption-budget",
            metadata=_metadata(inputs, outputs.DISRUPTION_BUDGET),
            spec=disruption_spec(),
            opts=after,
        )
        if inputs.max_replicas is not None:
            kubernetes.autoscaling.v2.HorizontalPodAutoscaler(
                "autoscaler",
                metadata=_metadata(inputs, outputs.AUTOSCALER),
                spec=autoscaler_spec(inputs, inputs.max_replicas),
                opts=after,
            )
        self.namespace = deployment.metadata.apply(lambda metadata: metadata.namespace or inputs.namespace)
        self.image = pulumi.Output.from_input(args.image)
        self.register_outputs({"namespace": self.namespace, "image": self.image})


def _metadata(inputs: Inputs, name: str, *, wait: bool = True) -> Any:
    metadata = {"name": name, "namespace": inputs.namespace, "labels": dict(outputs.LABELS)}
    return metadata if wait else {**metadata, "annotations": dict(NO_WAIT)}


def deployment_spec(inputs: Inputs, image: pulumi.Input[str]) -> Any:
    """One replica more than wanted during an update, never one less."""
    spec = {
        "selector": {"matchLabels": dict(outputs.SELECTOR)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "revisionHistoryLimit": 3,
        "template": pod.template(inputs, image),
    }
    # a count beside an autoscaler would undo its work at every deploy
    return spec if inputs.max_replicas is not None else {**spec, "replicas": inputs.replicas}


def service_spec(inputs: Inputs) -> Any:
    """The Service clients use: one address in front of all replicas."""
    ports = [
        _port("grpc", outputs.GRPC_PORT, inputs.grpc_node_port),
        _port("rest", outputs.REST_PORT, inputs.rest_node_port),
    ]
    return {"type": inputs.service_type, "selector": dict(outputs.SELECTOR), "ports": ports}


def replicas_spec() -> Any:
    """A Service without an address of its own: its name gives each ready replica's."""
    ports = [_port("grpc", outputs.GRPC_PORT), _port("rest", outputs.REST_PORT)]
    return {"clusterIP": "None", "selector": dict(outputs.SELECTOR), "ports": ports}


def _port(name: str, number: int, node_port: int | None = None) -> dict[str, Any]:
    port = {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}
    return port if node_port is None else {**port, "nodePort": node_port}


def disruption_spec() -> Any:
    """One replica at a time may be taken for the draining of nodes."""
    return {
        "selector": {"matchLabels": dict(outputs.SELECTOR)},
        "maxUnavailable": 1,
        # a replica that is broken anyway must not hold up its node
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def network_rules() -> Any:
    """In: the two serving ports. Out: name resolution and other replicas, so a client run in a pod works."""
    serving = [{"port": port, "protocol": "TCP"} for port in (outputs.GRPC_PORT, outputs.REST_PORT)]
    return {
        "podSelector": {"matchLabels": dict(outputs.SELECTOR)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": serving}],
        "egress": [
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"to": [{"podSelector": {"matchLabels": dict(outputs.SELECTOR)}}], "ports": serving},
        ],
    }


def autoscaler_spec(inputs: Inputs, most: int) -> Any:
    """Scale by processor use, relative to what a replica asked for."""
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": outputs.DEPLOYMENT},
        "minReplicas": inputs.replicas,
        "maxReplicas": most,
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": inputs.target_cpu},
                },
            }
        ],
    }
