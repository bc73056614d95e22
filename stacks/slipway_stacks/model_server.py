"""The component: everything one model server needs in a cluster.

Annotations stand as they are here and not as text: Pulumi reads them to describe the component to programs in
other languages.
"""

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from slipway_stacks import access, gateway, outputs, pod
from slipway_stacks.args import ModelServerArgs, settle
from slipway_stacks.inputs import Inputs

NO_WAIT = {"pulumi.com/skipAwait": "true"}


class ModelServer(pulumi.ComponentResource):
    """Deployment and Service of one model, and what guards them.

    Objects have set names, made from the model's: people and tools look for them. Two models live side by
    side in one namespace and one program.
    """

    namespace: pulumi.Output[str]
    """Namespace the objects are in."""
    image: pulumi.Output[str]
    """The image as deployed."""
    deployment_name: pulumi.Output[str]
    """The Deployment."""
    service_name: pulumi.Output[str]
    """The Service clients use."""
    replicas_name: pulumi.Output[str]
    """The headless Service, whose name resolves to every ready replica."""
    grpc_address: pulumi.Output[str]
    """Where a client in the cluster asks by gRPC, host:port."""
    rest_address: pulumi.Output[str]
    """Where a client in the cluster asks by REST, host:port."""

    def __init__(self, name: str, args: ModelServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Raises InputsError for wrong arguments, all of them at once, before any resource is made."""
        inputs = settle(args)
        super().__init__("slipway:index:ModelServer", name, {}, _known_before(opts))
        self._name, names = name, inputs.names
        needs: list[pulumi.Resource] = []
        if inputs.create_namespace:
            space = kubernetes.core.v1.Namespace(
                f"{name}-namespace",
                metadata={"name": inputs.namespace, "labels": dict(outputs.NAMESPACE_LABELS)},
                opts=self._child("namespace", ()),
            )
            needs.append(space)
        # Objects before the Deployment that they guard or that its pods name
        guards: list[pulumi.Resource] = [
            kubernetes.core.v1.ServiceAccount(
                f"{name}-service-account",
                metadata=_metadata(inputs, names.server),
                automount_service_account_token=False,
                opts=self._child("service-account", needs),
            ),
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-network-policy",
                metadata=_metadata(inputs, names.server),
                spec=network_rules(inputs),
                opts=self._child("network-policy", needs),
            ),
        ]
        self.deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=_metadata(inputs, names.deployment, wait=inputs.await_ready),
            spec=deployment_spec(inputs),
            opts=self._deployment_options(inputs, [*needs, *guards]),
        )
        self.service = self._services(inputs)
        self._guards_of_pods(inputs)
        self._routes(inputs)
        # of the Deployment, so that whoever uses an output waits for what it names
        self.namespace = self.deployment.metadata.apply(lambda metadata: str(metadata.namespace))
        self.image = pulumi.Output.from_input(inputs.image)
        self.deployment_name = self.deployment.metadata.apply(lambda metadata: str(metadata.name))
        self.service_name = self.service.metadata.apply(lambda metadata: str(metadata.name))
        self.replicas_name = pulumi.Output.from_input(names.replicas)
        host = pulumi.Output.concat(self.service_name, ".", self.namespace)
        self.grpc_address = pulumi.Output.concat(host, f":{outputs.GRPC_PORT}")
        self.rest_address = pulumi.Output.concat(host, f":{outputs.REST_PORT}")
        self.register_outputs(
            {
                "namespace": self.namespace,
                "image": self.image,
                "deploymentName": self.deployment_name,
                "serviceName": self.service_name,
                "replicasName": self.replicas_name,
                "grpcAddress": self.grpc_address,
                "restAddress": self.rest_address,
            }
        )

    def _services(self, inputs: Inputs) -> kubernetes.core.v1.Service:
        """The Service clients use and the headless one; the first is returned.

        After the Deployment: Pulumi waits for a Service until it has ready pods behind it.
        """
        name, names = self._name, inputs.names
        outside = inputs.service_type == "LoadBalancer"
        if outside and not inputs.await_load_balancer:
            pulumi.log.warn(
                f"{names.service} is of type LoadBalancer and nothing is known to hand out addresses here: "
                "not waiting for one. Set slipway:awaitLoadBalancer to true where something does.",
                self,
            )
        kubernetes.core.v1.Service(
            f"{name}-replicas",
            metadata=_metadata(inputs, names.replicas, wait=inputs.await_ready),
            spec=replicas_spec(inputs),
            opts=self._child("replicas", [self.deployment]),
        )
        return kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=_metadata(
                inputs,
                names.service,
                wait=inputs.await_ready and (not outside or inputs.await_load_balancer),
            ),
            spec=service_spec(inputs),
            opts=self._child("service", [self.deployment]),
        )

    def _guards_of_pods(self, inputs: Inputs) -> None:
        name, names = self._name, inputs.names
        kubernetes.policy.v1.PodDisruptionBudget(
            f"{name}-disruption-budget",
            metadata=_metadata(inputs, names.server),
            spec=disruption_spec(inputs),
            opts=self._child("disruption-budget", [self.deployment]),
        )
        if inputs.max_replicas is not None:
            kubernetes.autoscaling.v2.HorizontalPodAutoscaler(
                f"{name}-autoscaler",
                metadata=_metadata(inputs, names.server),
                spec=autoscaler_spec(inputs),
                opts=self._child("autoscaler", [self.deployment]),
            )
        if inputs.pod_monitor:
            kubernetes.apiextensions.CustomResource(
                f"{name}-pod-monitor",
                api_version=outputs.MONITORING_API,
                kind="PodMonitor",
                metadata=_metadata(inputs, names.server),
                spec=monitor_spec(inputs),
                opts=self._child("pod-monitor", [self.deployment]),
            )

    def _routes(self, inputs: Inputs) -> None:
        if inputs.gateway is None:
            return
        for kind, part, spec in (
            ("HTTPRoute", "rest-route", gateway.rest_spec(inputs)),
            ("GRPCRoute", "grpc-route", gateway.grpc_spec(inputs)),
        ):
            kubernetes.apiextensions.CustomResource(
                f"{self._name}-{part}",
                api_version=gateway.API,
                kind=kind,
                metadata=_metadata(inputs, inputs.names.server),
                spec=spec,
                opts=self._child(part, [self.service]),
            )

    def _child(self, part: str, needs: Any) -> pulumi.ResourceOptions:
        """Options of one of the objects. Its whole name was `part` until a second component fitted in."""
        return pulumi.ResourceOptions(parent=self, depends_on=[*needs], aliases=[pulumi.Alias(name=part)])

    def _deployment_options(self, inputs: Inputs, needs: list[pulumi.Resource]) -> pulumi.ResourceOptions:
        # an image that cannot be pulled is told when the wait is over, and Pulumi's own lasts ten minutes
        patience = f"{inputs.await_seconds}s"
        more = pulumi.ResourceOptions(
            custom_timeouts=pulumi.CustomTimeouts(create=patience, update=patience),
            # the autoscaler's count stands: without one in the manifest the API would start at 1
            ignore_changes=["spec.replicas"] if inputs.max_replicas is not None else None,
        )
        return pulumi.ResourceOptions.merge(self._child("deployment", needs), more)


def _known_before(opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    """The options, and the type that stacks know which are older than the component's package."""
    before = pulumi.ResourceOptions(aliases=[pulumi.Alias(type_="slipway:serving:ModelServer")])
    return pulumi.ResourceOptions.merge(opts, before)


def _metadata(inputs: Inputs, name: str, *, wait: bool = True) -> Any:
    metadata = {"name": name, "namespace": inputs.namespace, "labels": pod.labels(inputs)}
    return metadata if wait else {**metadata, "annotations": dict(NO_WAIT)}


def deployment_spec(inputs: Inputs) -> Any:
    """One replica more than wanted during an update, never one less."""
    return {
        "replicas": inputs.replicas,
        "selector": {"matchLabels": inputs.names.selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "revisionHistoryLimit": 3,
        "template": pod.template(inputs),
    }


def service_spec(inputs: Inputs) -> Any:
    """The Service clients use: one address in front of all replicas."""
    ports = [
        _port("grpc", outputs.GRPC_PORT, inputs.grpc_node_port),
        _port("rest", outputs.REST_PORT, inputs.rest_node_port),
    ]
    return {"type": inputs.service_type, "selector": inputs.names.selector, "ports": ports}


def replicas_spec(inputs: Inputs) -> Any:
    """A Service without an address of its own: its name gives each ready replica's."""
    ports = [_port("grpc", outputs.GRPC_PORT), _port("rest", outputs.REST_PORT)]
    return {"clusterIP": "None", "selector": inputs.names.selector, "ports": ports}


def _port(name: str, number: int, node_port: Any = None) -> dict[str, Any]:
    port = {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}
    return port if node_port is None else {**port, "nodePort": node_port}


def disruption_spec(inputs: Inputs) -> Any:
    """One replica at a time may be taken for the draining of nodes."""
    return {
        "selector": {"matchLabels": inputs.names.selector},
        "maxUnavailable": 1,
        # a replica that is broken anyway must not hold up its node
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def network_rules(inputs: Inputs) -> Any:
    """In: the two serving ports. Out: the cluster's DNS and other replicas, so a client in a pod works."""
    serving = [{"port": port, "protocol": "TCP"} for port in (outputs.GRPC_PORT, outputs.REST_PORT)]
    replicas = {"matchLabels": inputs.names.selector}
    return {
        "podSelector": replicas,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": serving}],
        "egress": [
            {
                "to": [
                    {
                        "namespaceSelector": {"matchLabels": dict(outputs.DNS_NAMESPACE)},
                        "podSelector": {"matchLabels": dict(outputs.DNS_PODS)},
                    }
                ],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
            {"to": [{"podSelector": replicas}], "ports": serving},
        ],
    }


def autoscaler_spec(inputs: Inputs) -> Any:
    """Scale by processor use, relative to what a replica asked for."""
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": inputs.names.deployment},
        "minReplicas": inputs.replicas,
        "maxReplicas": inputs.max_replicas,
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": inputs.target_cpu},
                },
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": inputs.scale_down_seconds}},
    }


def monitor_spec(inputs: Inputs) -> Any:
    """Where the Prometheus operator has each replica's metrics read."""
    return {
        "selector": {"matchLabels": inputs.names.selector},
        "podMetricsEndpoints": [
            {"port": "rest", "path": outputs.METRICS_PATH, **access.scraped(inputs)},
        ],
    }
